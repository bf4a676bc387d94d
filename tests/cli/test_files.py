"""The newest artefact as the default, and files around it that are none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from .helpers import Cli


def spread(made: Path) -> None:
    """Lay out two artefacts and, newer than both, files that are none."""
    for age, name in ((300, "new.safetensors"), (900, "aged.safetensors")):
        shutil.copy(made, name)
        time = made.stat().st_mtime - age
        os.utime(name, (time, time))
    save_file({"x": torch.zeros(1)}, "foreign.safetensors", {"format": "pt"})
    Path("folder.safetensors").mkdir()
    Path("rubbish.safetensors").write_bytes(b"\xff" * 50)
    header = json.dumps({"__metadata__": None}).encode()
    Path("odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize("verb", [("verify",), ("diff",), ("remove",), ("evaluate", "--data", "demo", "--limit", "20")])
def test_the_newest_artefact_is_taken_and_named_on_stderr(cli: Cli, made: Path, verb: tuple[str, ...]) -> None:
    spread(made)
    done = cli(*verb, "--json")
    assert done.code == 0
    assert done.err == "using new.safetensors, the newest artefact in this folder\n"
    assert done.document.get("artefact", "new.safetensors") == "new.safetensors"
    assert done.document.get("network", "new.safetensors") == "new.safetensors"


def test_age_decides_and_not_the_name(cli: Cli, made: Path) -> None:
    spread(made)
    os.utime("aged.safetensors")
    assert cli("remove", "--json").document["artefact"] == "aged.safetensors"
