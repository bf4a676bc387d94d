"""What profiles tell, against counts of their own and blocks that take a known time."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.errors import ExportError, for_python
from attn_surgeon.measure.cost import graft_costs, macs, parameters
from attn_surgeon.measure.peak_memory import peak_memory
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, load_demo
from attn_surgeon.operations.insert import insert
from attn_surgeon.profiling.latency_chart import draw_latencies
from attn_surgeon.profiling.onnx_file import read_onnx
from attn_surgeon.profiling.profiled_network import ProfileInput, original
from attn_surgeon.profiling.profiler import ProfileSettings, profile, savings
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.surgery.running import run_network

from .helpers import scaling

CPU = torch.device("cpu")
X = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def operated() -> LoadedNetwork:
    model = insert(load_demo(), "cbam", after="layer2", example=X)
    model = insert(model, "se", after="layer3", example=X)
    return LoadedNetwork(set_provenance(model.eval(), Provenance(SourceSpec("demo", "demo"), DEMO_PREPROCESSING)))


def entrants() -> list[ProfileInput]:
    loaded = operated()
    bare = original(loaded)
    assert bare is not None
    return [ProfileInput("grafted", loaded), ProfileInput("original", bare)]


def test_a_profile_adds_up() -> None:
    grafted, bare = pair = entrants()
    assert isinstance(grafted.source, LoadedNetwork)
    assert isinstance(bare.source, LoadedNetwork)
    found = profile(pair, ProfileSettings(CPU, ["eager"], [1, 3], rounds=2))
    whole, base = found["networks"]
    cbam, se = graft_costs(grafted.source.model, X).values()
    demo = load_demo()
    assert (base["parameters"], base["macs"]) == (parameters(demo), macs(partial(run_network, demo, X)))
    assert whole["parameters"] == base["parameters"] + cbam.parameters + se.parameters
    assert whole["macs"] == base["macs"] + cbam.macs + se.macs
    assert [(row["site"], row["block"], row["macs"]) for row in found["grafts"]] == [
        ("after layer2", "cbam", cbam.macs),
        ("after layer3", "se", se.macs),
    ]
    three = X.repeat(3, 1, 1, 1)
    assert base["activation_bytes"][3] == pytest.approx(peak_memory(partial(run_network, demo, three), CPU), rel=0.02)
    assert [(row["batch"], row["network"]) for row in found["runs"]] == [
        (1, "grafted"), (1, "original"), (3, "grafted"), (3, "original")
    ]  # fmt: skip
    for row in found["runs"]:
        assert row["images_per_second"] == pytest.approx(1000 * row["batch"] / row["median_ms"])
    assert [row["ratio"] for row in found["runs"]][1::2] == [1, 1]
    bars: Any = draw_latencies(found | {"device": "x"}).axes[0].patches
    assert [bar.get_height() for bar in bars] == [found["runs"][index]["median_ms"] for index in (0, 2, 1, 3)]


def test_a_network_whose_grafts_are_bypassed_computes_what_the_original_does() -> None:
    model = operated().model
    with bypassed(made.block for made in list_grafts(model)):
        assert macs(partial(run_network, model, X)) == macs(partial(run_network, load_demo(), X))
    assert macs(partial(run_network, model, X)) > macs(partial(run_network, load_demo(), X))


def test_what_a_graft_takes_is_saved_without_it() -> None:
    model = operated().model
    slow, quick = (made for made in list_grafts(model))

    def sleep(x: Tensor) -> Tensor:
        time.sleep(0.05)
        return x

    vars(slow.block)["forward"] = sleep
    saved = savings(model, X, rounds=5)
    assert saved[slow.path].median == pytest.approx(0.05, abs=0.025)
    assert saved[quick.path].median < 0.025
    assert vars(slow.block)["forward"] is sleep


class Sleep(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x.mean((2, 3))


def alone(model: nn.Module) -> LoadedNetwork:
    return LoadedNetwork(set_provenance(model, Provenance(SourceSpec("object", "mine"), DEMO_PREPROCESSING)))


def test_the_ratio_is_that_to_the_other_network(tmp_path: Path) -> None:
    slow, quick = ProfileInput("slow", alone(Sleep(0.04))), ProfileInput("quick", alone(Sleep(0.02)))
    runs = profile([slow, quick], ProfileSettings(CPU, ["eager"], [1], rounds=3))["runs"]
    assert [row["ratio"] for row in runs] == pytest.approx([2, 1], rel=0.2)
    assert runs[0]["median_ms"] == pytest.approx(40, rel=0.2)
    file = ProfileInput("file", read_onnx(scaling(tmp_path / "x.onnx", ["n", 1, 4, 5])))
    found = profile([quick, file], ProfileSettings(CPU, ["eager"], [1], rounds=2))
    assert [(row["network"], row["ratio"]) for row in found["runs"]] == [("quick", None)]
    assert list(map(for_python, found["notes"])) == [
        "eager does not run file: an ONNX file runs in ONNX Runtime only; use runtime=onnx"
    ]


def test_a_batch_that_does_not_run_is_reported_and_the_others_are_timed() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.fc(x.view(1, 1, 32, 32))
            return made

    loaded = alone(Single())
    found = profile([ProfileInput("single", loaded)], ProfileSettings(CPU, ["eager"], [2, 1], rounds=2))
    assert [row["batch"] for row in found["runs"]] == [1]
    assert found["networks"][0]["activation_bytes"][2] is None
    (note,) = found["notes"]
    assert note.startswith("eager at batch 2 does not run single: shape '[1, 1, 32, 32]' is invalid")
    with pytest.raises(ExportError, match="nothing was measured: eager at batch 2"):
        profile([ProfileInput("single", loaded)], ProfileSettings(CPU, ["eager"], [2], rounds=2))
