"""Every test of sources runs with empty caches and no way out."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from typing import NoReturn

import pytest

from .helpers import NET


def _no_network(*args: object, **kwargs: object) -> NoReturn:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give every test empty caches and no way out."""
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # an opener built before would remember a proxy
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"
