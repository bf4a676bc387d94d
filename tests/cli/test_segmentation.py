"""`finetune` and `evaluate` on images with masks, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.data.cells import write

from .helpers import REPO, Cli, refused

QUICK = ("--data", "cells", "--task", "segmentation", "--epochs", "1", "--batch-size", "4", "--crop", "16")
OWN = ("--source", "unet.py:unet")


@pytest.fixture
def unet(folder: Path, cli: Cli) -> str:
    """Make an artefact of the example's U-Net with gates on its skips."""
    shutil.copy(REPO / "examples" / "unet.py", folder)
    write(folder / "cells", count=3)
    network = ("unet.py:unet", "--weights", "none", "--arg", "width=4", "--size", "16")
    done = cli("insert", *network, "--block", "gate", "--at", "skips", "-o", "unet.safetensors")
    assert done.code == 0, done.err
    return "unet.safetensors"


def test_a_unet_is_trained_and_measured(cli: Cli, unet: str) -> None:
    Path("cells/classes.txt").write_text("sky\nsea\nland\n")
    done = cli("finetune", unet, *OWN, *QUICK, "--crops", "2", "--control", "--out", "run")
    assert done.code == 0, done.err
    document = json.loads(Path("run/comparison.json").read_text())
    assert (document["task"], document["train_images"], document["images"]) == ("segmentation", 3, 3)
    assert done.out.splitlines()[-1] == document["verdict"]
    assert "signed-rank" in done.out
    assert "the head head is new: 3 outputs in place of 2" in done.err
    assert f"{100 * document['runs'][0]['control']['iou']['land']:.2f} %" in done.out
    for arm in ("grafts", "control"):
        folder = f"run/seed-0-{arm}"
        line = json.loads(Path(folder, "metrics.jsonl").read_text())
        found = cli("evaluate", f"{folder}/last.safetensors", *OWN, "--data", "cells", "--json").document
        assert found["miou"] == line["val_miou"] == document["runs"][0][arm]["miou"]
        assert found["iou"] == document["runs"][0][arm]["iou"]
        assert list(found["iou"]) == ["sky", "sea", "land"]
        with Image.open(f"{folder}/predictions.png") as picture:
            assert picture.height > 500
    both = ("run/seed-0-grafts/last.safetensors", *OWN, "--data", "cells", "--compare", f"{folder}/last.safetensors")
    found = cli("evaluate", *both, "--json").document
    ours, theirs = (document["runs"][0][arm]["miou"] for arm in ("grafts", "control"))
    assert (found["miou"], found["compare"]["miou"]) == (ours, theirs)
    mine, own = found["compare"], document["difference"]
    assert {name: mine["difference"][name] for name in ("estimate", "low", "high")} == {
        name: own[name] for name in ("estimate", "low", "high")
    }
    assert mine["wilcoxon"] == document["wilcoxon"]
    assert cli("evaluate", *both).out.splitlines()[-1] == mine["verdict"]
    robust = cli("evaluate", *both, "--robust", "--seed", "3", "--json").document["robust"]
    lines = cli("evaluate", *both, "--robust", "--seed", "3").out.splitlines()
    assert {robust["gain"]["verdict"], robust["gain"]["verdict_beyond_clean"]} <= set(lines)
    assert f"{100 * robust['compare_means']['clutter']:.2f}" in next(
        line for line in lines[::-1] if "clutter" in line and "," not in line
    )
    shown = cli("evaluate", f"{folder}/last.safetensors", *OWN, "--data", "cells", "--task", "segmentation")
    assert f"{100 * line['val_miou']:.2f} %" in shown.out


def test_wrong_requests_are_reported_in_one_line(cli: Cli, unet: str) -> None:
    assert "--task segmentation" in refused(cli, "finetune", unet, *OWN, "--data", "cells")
    assert "segmentation" in refused(cli, "evaluate", unet, *OWN, "--data", "cells", "--task", "segmentatio")
    assert "windows of 10×10" in refused(cli, "finetune", unet, *OWN, *QUICK, "--crop", "10")
    assert "--mixup" in refused(cli, "finetune", unet, *OWN, *QUICK, "--mixup", "0.2")
    assert "has the value 2" in refused(cli, "evaluate", unet, *OWN, "--data", "cells")
    Path("cells/val/masks/1.png").unlink()
    assert "has no mask" in refused(cli, "finetune", unet, *OWN, *QUICK)
