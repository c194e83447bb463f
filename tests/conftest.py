"""One processor thread, so that sums are added in one order, a cache apart from the user's, and readable assertions in
the shipped contracts."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
pytest.register_assert_rewrite("tunewright.testing")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Prepared data and what runs took are kept apart from the user's."""
    os.environ["TUNEWRIGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
