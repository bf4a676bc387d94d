"""ONNX files: what they compute, what they are made of, what they tell and what they do not."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon import __version__
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.blocks import get_card
from attn_surgeon.errors import ExportError
from attn_surgeon.export.dynamic_axes import read_axes
from attn_surgeon.export.failures import export_failure
from attn_surgeon.export.onnx import format as onnx_format
from attn_surgeon.export.onnx.convert import convert_to_onnx
from attn_surgeon.export.onnx.format import PROTOBUF_LIMIT, OnnxOptions, write_onnx
from attn_surgeon.export.onnx.session import open_session
from attn_surgeon.export.parity import ParityError
from attn_surgeon.export.parity_check import expected_outputs, rounding_error
from attn_surgeon.export.prepared import PreparedNetwork, prepare
from attn_surgeon.export.result import ExportResult
from attn_surgeon.export.settings import ExportRequest, ExportSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing

SMALL = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.3), (32, 48))


def of_own(model: nn.Module) -> LoadedNetwork:
    return LoadedNetwork(set_provenance(model.eval(), Provenance(SourceSpec("object", "own"), SMALL)))


def written(loaded: LoadedNetwork, path: Path, **settings: Any) -> tuple[PreparedNetwork, ExportResult, Any]:
    options = OnnxOptions(external_above=settings.pop("external_above", PROTOBUF_LIMIT))
    request = ExportRequest(
        network=loaded, settings=ExportSettings(**settings), options=options, targets={"fp32": path}
    )
    result = write_onnx(request)
    return result.prepared, result, onnx.load(path)


def shape(value: Any) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


class Several(nn.Module):
    """Gives a dict with a tuple, a tensor, and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        made = self.conv(x)
        return {"out": made, "maps": (made.mean((2, 3)), made.amax((2, 3))), "aux": None}


class Pyramid(nn.Module):
    """Gives maps and, of the form of classes, a tensor, and something with the input's name."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"low": x, "classes": x.mean((2, 3)), "images": x * 3}


class Listing(nn.Module):
    """Gives a tuple whose first is what it was given."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def open_file(trained: LoadedNetwork, folder: Path) -> tuple[PreparedNetwork, ExportResult, Any]:
    return written(trained, folder / "open.onnx", axes=read_axes("batch,height,width"))


@pytest.fixture(scope="module")
def original(demo: LoadedNetwork, folder: Path) -> Any:
    return written(demo, folder / "original.onnx")[2]


def test_every_corner_of_the_open_axes_agrees(open_file: tuple[PreparedNetwork, ExportResult, Any]) -> None:
    _, report, model = open_file
    assert shape(model.graph.input[0]) == ["batch", 1, "height", "width"]
    assert shape(model.graph.output[0]) == ["batch", 10]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("images", "logits")
    (parity,) = report.files[0].parities
    assert [each.size for each in parity.differences] == [
        f"{n}×{h}×{w}" for n in (1, 3) for h in (32, 64) for w in (32, 64)
    ]
    assert max(each.relative for each in parity.differences) < 1e-5
    assert all(each.agreement == 1 for each in parity.differences)
    parameters = {tensor.name for tensor in model.graph.initializer}
    assert {"fc.weight", "fc.bias"} <= parameters


class Pooling(nn.Module):
    """Pools a map to one value a channel, and tells classes apart by these."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(self.conv(x), 1), 1))
        return logits


@pytest.mark.parametrize("axes", ["", "batch", "batch,height,width"])
@pytest.mark.parametrize("preprocess", [False, True])
def test_a_pooling_is_one_node_whatever_is_open(axes: str, preprocess: bool, tmp_path: Path) -> None:
    model = written(of_own(Pooling()), tmp_path / "x.onnx", axes=read_axes(axes), preprocess=preprocess)[2]
    before = ["Transpose", "Cast", "Div", "Sub", "Div"] if preprocess else []
    assert operators(model) == [*before, "Conv", "ReduceMean", "Reshape", "Gemm"]


def test_untrained_grafts_leave_nothing_behind(original: Any, untrained: LoadedNetwork, tmp_path: Path) -> None:
    prepared, _, lean = written(untrained, tmp_path / "lean.onnx")
    assert prepared.dropped == prepared.grafts
    assert len(prepared.grafts) == 2
    for ours, theirs in zip(lean.graph.node, original.graph.node, strict=True):
        assert (ours.op_type, ours.name, ours.input, ours.output, ours.attribute) == (
            theirs.op_type, theirs.name, theirs.input, theirs.output, theirs.attribute
        )  # fmt: skip
    assert {each.name: each.raw_data for each in lean.graph.initializer} == {
        each.name: each.raw_data for each in original.graph.initializer
    }


def test_grafts_that_are_kept_agree_with_the_original(original: Any, untrained: LoadedNetwork, tmp_path: Path) -> None:
    _, report, kept = written(untrained, tmp_path / "kept.onnx", keep_identity=True)
    assert [parity.against for parity in report.files[0].parities] == ["PyTorch", "the original's export"]
    assert max(each.relative for each in report.files[0].parities[1].differences) < 1e-6
    added = Counter(operators(kept)) - Counter(operators(original))
    assert added.total() == 2 * (get_card("cbam").nodes - 2)  # the gates' factors are in the convolutions before
    assert {node.name.split("/")[0].rpartition(".attn_surgeon.")[0] for node in kept.graph.node} >= {
        "layer1.0",
        "layer3.1",
    }


def test_outputs_have_names_that_mean_something(tmp_path: Path) -> None:
    _, _, model = written(of_own(Several()), tmp_path / "several.onnx")
    assert [value.name for value in model.graph.output] == ["out", "maps_0", "maps_1"]
    assert {tensor.name for tensor in model.graph.initializer} >= {"conv.weight", "conv.bias"}
    _, _, model = written(of_own(Listing()), tmp_path / "listing.onnx")
    assert [value.name for value in model.graph.output] == ["output_0", "output_1"]
    assert model.graph.input[0].name == "images"


def test_pixels_in_and_probabilities_out(demo: LoadedNetwork, tmp_path: Path) -> None:
    settings = {"preprocess": True, "softmax": True, "axes": read_axes("batch,width")}
    _, report, model = written(demo, tmp_path / "whole.onnx", **settings)
    assert shape(model.graph.input[0]) == ["batch", 32, "width", 1]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.output[0].name == "probabilities"
    assert operators(model)[-1] == "Softmax"
    assert report.files[0].parities[0].worst.absolute < 1e-6


@pytest.mark.parametrize(
    ("model", "expected"),
    [(Several(), ["probabilities", "maps_0", "maps_1"]), (Pyramid(), ["low", "probabilities", "images_1"])],
)
def test_of_several_outputs_the_classes_become_probabilities(
    model: nn.Module, expected: list[str], tmp_path: Path
) -> None:
    prepared, _, file = written(of_own(model), tmp_path / "x.onnx", softmax=True)
    names = [value.name for value in file.graph.output]
    assert names == expected
    place = names.index("probabilities")
    with open_session(tmp_path / "x.onnx") as session:
        size = next(prepared.sizes())
        found = session.run({"images": prepared.inputs(size).numpy()})
    np.testing.assert_allclose(found[place].sum(1), 1, rtol=1e-5)
    assert all(abs(other.sum(1) - 1).max() > 1e-2 for other in found[:place] + found[place + 1 :])


@pytest.mark.slow
def test_images_to_compare_on_do_not_change_the_graph(trained: LoadedNetwork) -> None:
    all_prepared = [prepare(trained, ExportSettings(images=images)) for images in (None, "demo")]
    models = [convert_to_onnx(each.exported, each.example, each.axes, 20) for each in all_prepared]
    graphs = [onnx_ir.to_proto(model).graph for model in models]
    assert not torch.equal(all_prepared[0].example, all_prepared[1].example)
    assert graphs[0].node == graphs[1].node


class Drawing(nn.Module):
    """Draws numbers, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.randn(x.shape[0], 3)


def test_a_network_that_draws_random_numbers_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="the network draws random numbers"):
        written(of_own(Drawing()), tmp_path / "x.onnx")


def test_the_file_stores_its_provenance_without_local_paths(
    trained: LoadedNetwork, open_file: tuple[PreparedNetwork, ExportResult, Any], folder: Path
) -> None:
    model = open_file[2]
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told.pop("attn_surgeon.version") == __version__
    story = {key.removeprefix("attn_surgeon."): json.loads(value) for key, value in told.items()}
    assert story["class_names"] == list("0123456789")
    assert story["preprocessing"] == {
        **trained.preprocessing.to_dict(),
        "inside": False,
        "dtype": "float32",
        "layout": "NCHW",
        "range": [0, 1],
    }
    assert story["recipe"]["source"]["name"] == "demo"
    assert story["recipe"]["operations"][0]["insert"]["block"] == "cbam"
    assert story["grafts_left_out"] == []
    data = (folder / "open.onnx").read_bytes()
    for trace in (b".py", b"site-packages", str(Path.home()).encode(), b"stack_trace", b"pkg.torch"):
        assert trace not in data, trace


def test_a_large_file_keeps_its_tensors_beside_it(demo: LoadedNetwork, tmp_path: Path) -> None:
    _, report, _ = written(demo, tmp_path / "x.onnx", external_above=100_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx", "x.onnx.data"]
    assert (tmp_path / "x.onnx.data").stat().st_size > 600_000 > (tmp_path / "x.onnx").stat().st_size * 4
    assert report.files[0].parities[0].passed
    with open_session(tmp_path / "x.onnx") as session:
        assert session.run({"images": torch.zeros(1, 1, 32, 32).numpy()})[0].shape == (1, 10)


class Cancelling(nn.Module):
    """Loses digits."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        high = x.mean((2, 3)) + 1e4
        return (high - 1e4) * self.factor


def test_the_effect_of_rounding_alone_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, other = (prepare(of_own(Cancelling(factor)), ExportSettings()) for factor in (1e3, 2e3))
    size = next(iter(prepared.sizes()))
    exact = prepared.inputs(size).double().mean((2, 3)).numpy() * 1e3
    found = np.abs(expected_outputs(prepared, size)[0] - exact).max() / np.abs(exact).max()
    assert found > 1e-4
    assert rounding_error(prepared, size) == pytest.approx(found, rel=1e-3)
    model = convert_to_onnx(other.exported, other.example, other.axes, 20)
    monkeypatch.setattr(onnx_format, "convert_to_onnx", lambda *args: model)
    with pytest.raises(ParityError, match=r"rounding alone changes PyTorch's own outputs by 0\.0"):
        written(prepared.network, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_left(
    demo: LoadedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(demo, ExportSettings())
    model = convert_to_onnx(prepared.exported, prepared.example, prepared.axes, 20)
    bias = model.graph.initializers["fc.bias"]
    bias.const_value = onnx_ir.tensor(bias.const_value.numpy() + np.eye(10, dtype=np.float32)[3] / 2)
    monkeypatch.setattr(onnx_format, "convert_to_onnx", lambda *args: model)
    (tmp_path / "x.onnx").write_text("the one before")
    with pytest.raises(ParityError, match="does not agree with PyTorch: relative difference 0") as told:
        written(demo, tmp_path / "x.onnx")
    assert "rounding" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_text() == "the one before"
    written(demo, tmp_path / "x.onnx", tolerance=1.0)
    assert (tmp_path / "x.onnx").stat().st_size > 100_000


class Windows(nn.Module):
    """Attends within the rows of a map, with axes (N, rows, heads, L, E)."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1).unsqueeze(2)
        return nn.functional.scaled_dot_product_attention(rows, 2 * rows, rows).squeeze(2)


def test_attention_may_have_more_axes(tmp_path: Path) -> None:
    _, report, model = written(of_own(Windows()), tmp_path / "x.onnx", axes=read_axes("batch"))
    assert "Softmax" in operators(model)
    assert report.files[0].parities[0].worst.relative < 1e-5


class Twice(nn.Module):
    """Asks for the sizes of its images twice, in no module of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.reshape(x.shape[0], -1), (x + 1).reshape(x.shape[0], 3, -1).amax(1)), 1)


def test_no_two_nodes_have_one_name(tmp_path: Path) -> None:
    _, report, model = written(of_own(Twice()), tmp_path / "twice.onnx", axes=read_axes("batch,height,width"))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) > 4
    assert report.files[0].parities[0].passed


class Fixed(nn.Module):
    """Does to three images what it does to no other number of them."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] == 3 else x


class Deciding(nn.Module):
    """Looks at the images to decide what to do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize("model", [Deciding(), Fixed()], ids=["data", "batch"])
def test_a_network_that_cannot_be_exported_is_reported_in_one_line(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error, warnings.catch_warnings():
        written(of_own(model), tmp_path / "x.onnx")
    assert "\n" not in str(error.value)
    assert "cannot be exported" in error.value.what or "fixed the batch" in error.value.what
    assert list(tmp_path.iterdir()) == []


def test_an_exporters_error_is_reported_in_one_line() -> None:
    error = RuntimeError("failed")
    error.__cause__ = ValueError("Could not convert:\n  - " + "x" * 5000 + "\nand so on")
    told = str(export_failure(error, read_axes("batch")))
    assert told.startswith("the network cannot be exported: xxx")
    assert len(told) < 300
