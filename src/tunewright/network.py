"""The hub, asked only where it answers: without a network a name fails at once instead of after many retries."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

SECONDS = 2.0
"""How long the hub (or the proxy before it) may take to accept a connection. Answers may take as long as they need."""

_reached: set[str] = set()


@contextmanager
def hub(name: str) -> Iterator[None]:
    """Within it `name` is loaded: a folder as ever, a name of the hub from there or from what earlier loads kept.

    Where the hub does not accept a connection within `SECONDS`, its libraries work offline meanwhile. Raises
    `ConnectionError` when files are missing then.
    """
    from huggingface_hub import constants

    if Path(name).exists() or constants.HF_HUB_OFFLINE or _reachable(constants.ENDPOINT):
        yield
        return
    with _offline():
        try:
            yield
        except OSError as error:
            raise ConnectionError(
                f"{constants.ENDPOINT} cannot be reached, and '{name}' is not there from an earlier download"
            ) from error


def _reachable(endpoint: str) -> bool:
    """Whether a connection to the hub opens in time; asked until it does for the first time."""
    if endpoint not in _reached:
        opened: list[bool] = []
        # Looking up a name has no time limit of its own, so it happens in a thread that may be left behind.
        asking = Thread(target=lambda: opened.append(_connects(endpoint)), daemon=True)
        asking.start()
        asking.join(SECONDS)
        if not any(opened):
            return False
        _reached.add(endpoint)
    return True


def _connects(endpoint: str) -> bool:
    url = urlsplit(endpoint)
    proxies = {} if proxy_bypass(url.hostname or "") else getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    at = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else url
    try:
        with socket.create_connection((at.hostname, at.port or (443 if at.scheme == "https" else 80)), SECONDS):
            return True
    except OSError:
        return False


@contextmanager
def _offline() -> Iterator[None]:
    """The hub's libraries without the network; each reads its own setting when it is used."""
    from huggingface_hub import constants

    settings: list[Any] = [constants, *([sys.modules["datasets.config"]] if "datasets.config" in sys.modules else [])]
    before = [module.HF_HUB_OFFLINE for module in settings]
    for module in settings:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, was in zip(settings, before, strict=True):
            module.HF_HUB_OFFLINE = was
