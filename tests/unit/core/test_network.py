"""Names of the hub fail at once where there is no network, and slow answers are waited for where there is."""

import socket
import time

import pytest
from huggingface_hub import constants

from tunewright import network
from tunewright.data import hub as data_sets
from tunewright.document import Keys
from tunewright.errors import BadInput
from tunewright.models.load import describe, load_tokenizer
from tunewright.recipe import ModelSpec, SourceSpec

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def nothing_asked_yet(monkeypatch, tmp_path):
    monkeypatch.setattr(network, "_reached", set())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def listening():
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


LOADS = {
    "tokenizer": lambda: load_tokenizer(ModelSpec(path="no-such-owner/model")),
    "configuration": lambda: describe(ModelSpec(path="no-such-owner/model")),
    "data set": lambda: list(data_sets.named(SourceSpec(path="no-such-owner/data"), Keys(None, {}), ("data",))),
}


@pytest.mark.parametrize("what", LOADS)
def test_a_name_without_a_network_fails_at_once(what, monkeypatch):
    import datasets  # noqa: F401  (its import is not what is timed)
    import transformers  # noqa: F401

    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    started = time.perf_counter()
    with pytest.raises(BadInput, match=rf"{NOWHERE} cannot be reached, and 'no-such-owner/\w+' is not there"):
        LOADS[what]()
    assert time.perf_counter() - started < 3
    assert not constants.HF_HUB_OFFLINE


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(network, "SECONDS", 0.2)
    monkeypatch.setattr(network, "_connects", lambda endpoint: time.sleep(5))
    started = time.perf_counter()
    with network.hub("owner/name"):
        assert constants.HF_HUB_OFFLINE
    assert time.perf_counter() - started < 2


def test_where_the_hub_answers_nothing_is_switched_off_and_it_is_asked_once(monkeypatch, listening):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{listening}")
    for _ in range(2):
        with network.hub("owner/name"):
            assert not constants.HF_HUB_OFFLINE
        monkeypatch.setattr(network, "_connects", lambda endpoint: pytest.fail("asked again"))


def test_a_proxy_is_asked_instead_of_the_hub(monkeypatch, listening):
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", f"http://{listening}")
    with network.hub("owner/name"):
        assert not constants.HF_HUB_OFFLINE


def test_a_folder_asks_nobody(monkeypatch, tmp_path):
    monkeypatch.setattr(network, "_connects", lambda endpoint: pytest.fail("asked"))
    with network.hub(str(tmp_path)):
        assert not constants.HF_HUB_OFFLINE


def test_another_fault_is_told_as_it_is(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    with pytest.raises(ValueError, match="odd"), network.hub("owner/name"):
        raise ValueError("odd")
