"""Exports called from Python: the caller's network stays, files compute the same, and wrong calls say why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import attn_surgeon
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.blocks import closing_parameters
from attn_surgeon.errors import ExportError, SurgeonError
from attn_surgeon.export import api as library
from attn_surgeon.export.example_images import folder_pixels, normalise
from attn_surgeon.export.parity import ParityError
from attn_surgeon.profiling.onnx_file import read_onnx
from attn_surgeon.surgery.installed_grafts import list_grafts

EXAMPLE = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(3))


class Small(nn.Module):
    """Takes four channels, as no image file has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Label every pixel."""
        out: Tensor = self.head(self.stem(x))
        return out


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = attn_surgeon.insert(Small(), "cbam", example=EXAMPLE, after="stem").train()
    for made in list_grafts(model):
        for parameter in closing_parameters(made.block).values():
            nn.init.normal_(parameter, std=0.3)
    return model


def ran(path: Path, images: Tensor) -> Any:
    return onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]


@torch.no_grad()
def expected(model: nn.Module, images: Tensor) -> Any:
    modes = {module: module.training for module in model.modules()}
    output = model.eval()(images).numpy()
    for module, training in modes.items():
        module.training = training
    return output


def close(found: Any, wanted: Any, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max())


def test_the_file_computes_what_the_network_does(network: nn.Module, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    written = attn_surgeon.export_onnx(
        network, tmp_path / "m.onnx", example=EXAMPLE, dynamic="batch,height=8:32", opset=19
    )
    images = torch.randn(2, 4, 32, 24)
    assert close(ran(tmp_path / "m.onnx", images), expected(network, images))
    assert written.parities[0].worst.relative < 1e-5
    assert len(written.parities[0].differences) == 4  # two batches, two heights
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 19
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_in_half_precision(network: nn.Module, tmp_path: Path) -> None:
    attn_surgeon.export_onnx(network, tmp_path / "m.onnx", example=EXAMPLE, precision="fp16")
    found, wanted = ran(tmp_path / "m.onnx", EXAMPLE), expected(network, EXAMPLE)
    assert close(found, wanted, 1e-2)
    assert not close(found, wanted, 1e-6)


def test_in_integers(tmp_path: Path) -> None:
    demo = open_network("demo")
    written = attn_surgeon.export_onnx(
        demo.model, tmp_path / "m.onnx", example=demo.example, precision="int8", calibrate="demo", images="demo"
    )
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(written.path).graph.node}
    pixels = folder_pixels("demo", demo.preprocessing)[0]({"batch": 16, "height": 32, "width": 32})
    images = normalise(pixels, demo.preprocessing)
    assert close(ran(written.path, images), expected(demo.model, images), 0.05)


def test_a_program(network: nn.Module, tmp_path: Path) -> None:
    written = attn_surgeon.export_program(network, tmp_path / "m.pt2", example=EXAMPLE)
    images = torch.randn(3, 4, 16, 24)
    found = torch.export.load(tmp_path / "m.pt2").module()(images)
    assert close(found.detach().numpy(), expected(network, images))
    assert written.parity.passed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_a_compiled_program(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU())
    attn_surgeon.export_program(model, tmp_path / "m.pt2", example=EXAMPLE, compiled=True)
    program = torch._inductor.aoti_load_package(str(tmp_path / "m.pt2"))
    images = torch.randn(5, 4, 16, 24)
    assert close(program(images).numpy(), expected(model, images))
    assert json.loads(program.get_metadata()["attn_surgeon.recipe"])["source"]["name"] == "Sequential"
    with ZipFile(tmp_path / "m.pt2") as package:
        assert not [name for name in package.namelist() if name.endswith(".cpp")]


def story(path: Path) -> dict[str, Any]:
    return {item.key: item.value for item in onnx.load(path).metadata_props}


def test_only_the_size_is_stored_when_preprocessing_is_unknown(network: nn.Module, tmp_path: Path) -> None:
    attn_surgeon.export_onnx(network, tmp_path / "m.onnx", example=EXAMPLE)
    told = story(tmp_path / "m.onnx")
    assert json.loads(told["attn_surgeon.preprocessing"]) == {
        "size": [16, 24],
        "inside": False,
        "dtype": "float32",
        "layout": "NCHW",
        "range": [0, 1],
    }
    assert json.loads(told["attn_surgeon.recipe"])["images"] == {"size": [16, 24]}
    assert read_onnx(str(tmp_path / "m.onnx")).size == (16, 24)


def test_normalisation_is_included_in_the_graph(network: nn.Module, tmp_path: Path) -> None:
    mean, std = (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)
    attn_surgeon.export_onnx(network, tmp_path / "m.onnx", example=EXAMPLE, preprocess=True, mean=mean, std=std)
    pixels = torch.randint(0, 256, (1, 16, 24, 4), dtype=torch.uint8)
    images = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert close(ran(tmp_path / "m.onnx", pixels), expected(network, images))
    told = json.loads(story(tmp_path / "m.onnx")["attn_surgeon.preprocessing"])
    assert (told["mean"], told["size"], told["inside"]) == (list(mean), [16, 24], True)
    assert (told["dtype"], told["layout"], told["range"]) == ("uint8", "NHWC", [0, 255])


def test_an_artefact_keeps_its_own_normalisation(tmp_path: Path) -> None:
    demo = open_network("demo")
    attn_surgeon.export_onnx(demo.model, tmp_path / "m.onnx", example=torch.zeros(1, 1, 48, 48))
    told = {name: json.loads(text) for name, text in story(tmp_path / "m.onnx").items() if text.startswith("{")}
    for images in (told["attn_surgeon.preprocessing"], told["attn_surgeon.recipe"]["images"]):
        assert (images["mean"], images["size"]) == ([0.305], [48, 48])


def test_a_difference_leaves_no_file(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="does not agree"):
        attn_surgeon.export_onnx(network, tmp_path / "m.onnx", example=EXAMPLE, tolerance=0)
    assert not list(tmp_path.iterdir())


Call = Callable[..., Any]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "opset": ({"opset": 26}, "opset 26 is out of range"),
    "precision": ({"precision": "fp61"}, "unknown precision 'fp61'.*fp16"),
    "bfloat": ({"precision": "bf16"}, "unknown precision 'bf16'"),
    "calibration": ({"precision": "int8"}, "int8 needs images"),
    "needless calibration": ({"calibrate": "demo"}, "no effect without int8"),
    "no images": ({"images": "nowhere"}, "no such folder"),
    "axes": ({"dynamic": "batch,hight"}, "unknown axis 'hight'.*height"),
    "normalisation": ({"preprocess": True}, "images is unknown"),
    "half of it": ({"preprocess": True, "mean": (0.5,) * 4}, "images is unknown"),
    "a list of axes": ({"dynamic": ["batch", "hight"]}, "unknown axis 'hight'"),
    "mean": ({"mean": (0.5,), "std": (0.5,) * 4}, "mean has 1 values, the example 4 channels"),
    "std": ({"mean": (0.5,) * 4, "std": (0.5,) * 3}, "std has 3 values, the example 4 channels"),
    "channels": ({"example": torch.zeros(1, 3, 8, 8)}, "does not run on images 1×3×8×8: .*expected input"),
    "opset in words": ({"opset": "20"}, "opset 20 is out of range"),
    "example": ({"example": torch.zeros(3, 8, 8)}, r"not a batch of images: \(3, 8, 8\)"),
    "integers": ({"example": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "not a batch of images.*uint8"),
    "several": ({"example": (EXAMPLE, EXAMPLE)}, "not a batch of images: tuple"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_raise_with_the_reason(case: str, network: nn.Module, tmp_path: Path) -> None:
    given, message = WRONG[case]
    with pytest.raises(SurgeonError, match=f"(?s){message}"):
        attn_surgeon.export_onnx(network, tmp_path / "m.onnx", **{"example": EXAMPLE, **given})
    assert not list(tmp_path.iterdir())


def test_names_of_files(network: nn.Module, tmp_path: Path) -> None:
    for export, name in ((library.export_onnx, "m.pt2"), (library.export_program, "m.onnx")):
        with pytest.raises(ExportError, match="does not end in"):
            export(network, tmp_path / name, example=EXAMPLE)


def test_what_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a Python module: str"):
        library.export_onnx("resnet18", tmp_path / "m.onnx", example=EXAMPLE)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_what_is_scripted(tmp_path: Path) -> None:
    scripted = torch.jit.trace(nn.ReLU(), EXAMPLE)  # type: ignore[no-untyped-call]
    with pytest.raises(ExportError, match="not a Python module"):
        library.export_onnx(scripted, tmp_path / "m.onnx", example=EXAMPLE)


def test_several_outputs_come_by_name(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"low": x, "high": x.mean((2, 3))}

    library.export_program(Two(), tmp_path / "m.pt2", example=EXAMPLE, softmax=True)
    found = torch.export.load(tmp_path / "m.pt2").module()(EXAMPLE)
    assert list(found) == ["low", "probabilities"]
    torch.testing.assert_close(found["probabilities"], EXAMPLE.mean((2, 3)).softmax(1))


def test_a_network_in_double_precision_is_exported_in_single_precision(tmp_path: Path) -> None:
    model = nn.Conv2d(4, 2, 1).double()
    library.export_onnx(model, tmp_path / "m.onnx", example=EXAMPLE.double())
    assert close(ran(tmp_path / "m.onnx", EXAMPLE), expected(model, EXAMPLE.double()))
    assert model.weight.dtype == torch.float64


def test_a_folder_that_is_not_there(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no such folder"):
        library.export_onnx(network, tmp_path / "none" / "m.onnx", example=EXAMPLE)


def test_a_folder_of_the_files_name(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(ExportError, match="this is a folder"):
        library.export_onnx(network, tmp_path / "m.onnx", example=EXAMPLE)


def test_outputs_of_one_name_are_distinguished(tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"a": {"b": x}, "a_b": x * 2, "probabilities": x.mean((2, 3)), "logits": x.amax((2, 3))}

    library.export_program(Same(), tmp_path / "m.pt2", example=EXAMPLE, softmax=True)
    found = torch.export.load(tmp_path / "m.pt2").module()(EXAMPLE)
    assert list(found) == ["a_b", "a_b_1", "probabilities", "probabilities_1"]
    torch.testing.assert_close(found["probabilities_1"], EXAMPLE.amax((2, 3)).softmax(1))


def test_a_program_that_draws_random_numbers_is_reported(tmp_path: Path) -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) + torch.randn(x.shape[0], 4)

    with pytest.raises(ParityError, match="the network draws random numbers"):
        library.export_program(Drawing(), tmp_path / "m.pt2", example=EXAMPLE)


def test_an_option_that_there_is_not(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="tolerence"):
        attn_surgeon.export_onnx(network, tmp_path / "m.onnx", example=EXAMPLE, tolerence=1)  # type: ignore[call-arg]
