"""Every test of the command line runs in an empty folder, with a completion cache of the session outside it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attn_surgeon.cli.app import main

from .helpers import INSERT, Cli, Done


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("ATTN_SURGEON_DEBUG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # parallel runs of pytest set it
    return tmp_path


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["attn-surgeon", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the demo with CBAM after layer3, made once by the command line."""
    path = tmp_path_factory.mktemp("made") / "demo-cbam.safetensors"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["attn-surgeon", *INSERT, "-o", str(path)])
        main()
    assert ended.value.code == 0
    yield path


@pytest.fixture
def artefact(made: Path, folder: Path) -> str:
    shutil.copy(made, folder)
    return made.name
