"""The demo detector: its names, and the weights it ships with."""

from __future__ import annotations

import pytest
from safetensors import safe_open

from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.networks.demo.detector import DETECTOR_WEIGHTS, demo_detector
from attn_surgeon.networks.demo.digits import CLASS_NAMES
from attn_surgeon.networks.demo.network import demo
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import ScoreOptions
from attn_surgeon.tasks.settings import TaskSettings


def test_the_trunk_is_the_demo_network() -> None:
    trunk = {name: value.shape for name, value in demo_detector().backbone.state_dict().items()}
    assert trunk == {name: value.shape for name, value in demo().state_dict().items() if not name.startswith("fc.")}


def test_the_weights_are_small_and_complete() -> None:
    assert DETECTOR_WEIGHTS.stat().st_size < 2_000_000
    with safe_open(DETECTOR_WEIGHTS, framework="pt") as stored:
        assert set(stored.keys()) == set(demo_detector().state_dict())


def test_the_weights_reach_the_average_precision_they_state() -> None:
    with safe_open(DETECTOR_WEIGHTS, framework="pt") as stored:
        metadata = stored.metadata()
    network, task = open_network("demo-detector"), get_task("detection")
    assert network.provenance.class_names == CLASS_NAMES
    data = task.open_split(network, "demo-boxes", "val", TaskSettings(task="detection"))
    found = task.score(network.model, data, ScoreOptions(with_loss=False))
    assert found.metric == pytest.approx(float(metadata["clutter_map"]), abs=2e-3)  # computed by torchmetrics
    assert float(metadata["map"]) > 0.8
    assert float(metadata["clutter_map"]) < 0.4
