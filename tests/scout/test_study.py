"""The study runs on made images, goes on where it stopped, and its report has the right numbers."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from tests.benchmarks import cifar

from .__main__ import main
from .bench import Bench, Size, skipped
from .networks import SUBJECTS
from .report import correlation, gains, report
from .study import read, text

TINY = Size(train=32, val=20, epochs=1, blocks=("gct",), batches=4, batch_size=4, every=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images and weights at random, of the kinds and sizes of the real ones."""
    root, dice = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 2)):
        for label in range(10):
            folder = root / "cifar10-jpeg" / split / f"class-{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = dice.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    torch.manual_seed(0)
    weights = runpy.run_path(str(cifar.REPO / "examples" / "cifar_resnet.py"))["resnet20"]().state_dict()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in weights.items()}}, root / "resnet20-12fca82f.th"
    )
    return root


@pytest.fixture(autouse=True)
def _made(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "DATA", data)
    monkeypatch.setattr(cifar, "CACHE", data)


def test_the_study_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scout.jsonl"
    arguments = ["cifar", "--seeds", "0", "--file", str(file)]
    main(arguments, TINY)
    shown, whole = capsys.readouterr().out, file.read_text().splitlines()
    keys = [json.loads(line)["key"] for line in whole]
    assert keys[:2] == ["scores 0", "head only 0"]
    assert keys[-1] == "look-ahead 0"
    assert keys[2:-1] == [f"{name} 0" for name in json.loads(whole[0])["trained"]]
    file.write_text("\n".join(whole[:3]) + "\n" + whole[3][:20])  # a run that was killed while it wrote
    main(arguments, TINY)
    again = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["key"] for line in again] == keys
    assert [line.get("loss") for line in again] == [json.loads(line).get("loss") for line in whole]
    assert capsys.readouterr().out == shown
    monkeypatch.setattr(Bench, "open", None)  # not opened where nothing is missing
    main([*arguments, "--report"], TINY)
    assert capsys.readouterr().out == shown


def test_the_rest_of_the_network_makes_the_same_of_cached_features() -> None:
    bench = Bench.open(SUBJECTS["cifar"], TINY)
    model = bench.network.model.eval()
    for path in ("layer1.0", "layer2.2"):
        position = bench.position(path)
        assert bench.chain[position] == path
        _, (features, _) = bench.features(position)
        with torch.no_grad():
            expected = model(bench.val[0])
            with skipped(model, bench.chain[:position]):
                assert torch.equal(model(features), expected)
    assert text(read("se after layer2")) == "se after layer2"


def test_the_report_has_spearmans_correlation_of_scores_with_gains() -> None:
    names, dice = [f"se after layer{index}" for index in range(12)], np.random.default_rng(1)
    scores, loss = dice.normal(size=12), dice.normal(size=(2, 12))
    first = {
        "scores": {"gain": {name: [score, 0.1] for name, score in zip(names, scores, strict=True)}},
        "parameters": {name: index + 1 for index, name in enumerate(names)},
        "depth": {name: index for index, name in enumerate(names)},
        "trained": names,
    }
    lines = {"scores 0": first, "scores 1": first}
    for seed in (0, 1):
        lines[f"head only {seed}"] = {"loss": 0.5, "top1": 0.5}
        for index, name in enumerate(names):
            lines[f"{name} {seed}"] = {"loss": 0.5 - loss[seed, index], "top1": 0.5 + loss[seed, index]}
    expected = spearmanr(scores, loss.mean(0)).statistic
    assert np.allclose(gains(lines, names, "loss"), loss)
    assert correlation(scores, gains(lines, names, "top1"))[0] == pytest.approx(expected)
    shown = report(lines)
    assert re.findall(r"\| gain \| ([+-][\d.]+) \|", shown)[:2] == [f"{expected:+.2f}"] * 2
    assert "| gain | +1.00 |" in shown  # with itself on the same batches
