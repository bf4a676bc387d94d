"""Two processes train what one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from attn_surgeon.artefact.storage import read_artefact_tensors

from .helpers import Cli, process

# norms see the part of a batch that is their process's own, so none may train here
RUN = ("--data", "demo", "--limit", "64", "--batch-size", "16", "--epochs", "1", "--freeze", "bn", "--json")


@pytest.mark.skipif(sys.platform == "win32", reason="gloo is not in torch for Windows")
def test_two_processes_train_the_same_weights_as_one(cli: Cli, folder: Path) -> None:
    cli("insert", "demo", "--block", "se", "--after", "layer3", "-o", "se.safetensors")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    two = process(*torchrun, "-m", "attn_surgeon", "finetune", "se.safetensors", *RUN, "--out", "two")
    assert two.code == 0, two.err
    one = cli("finetune", "se.safetensors", *RUN, "--out", "one")
    assert two.document["runs"][0]["grafts"] == pytest.approx(one.document["runs"][0]["grafts"], abs=1e-5)
    alone, together = (read_artefact_tensors(Path(name) / "last.safetensors") for name in ("one", "two"))
    before = read_artefact_tensors(Path("se.safetensors"))
    assert list(alone) == list(together)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=0, atol=1e-5)
    assert max(float((alone[name].double() - before[name].double()).abs().max()) for name in alone) > 1e-3
