"""The study runs on made images, goes on where it stopped, and its report has the right numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from .__main__ import main
from .bench import Bench, Size, skipped
from .networks import SUBJECTS
from .rank_report import correlation, gains, report
from .ranks import read, text

TINY = Size(train=32, val=20, epochs=1, blocks=("gct",), batches=4, batch_size=4, every=4)


def test_the_study_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scout.jsonl"
    arguments = ["ranks", "cifar", "--seeds", "0", "--file", str(file)]
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
