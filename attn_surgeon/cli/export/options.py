"""Options of `attn-surgeon export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Onnx = Annotated[bool, typer.Option("--onnx", help="Write an ONNX file.")]
Pt2 = Annotated[bool, typer.Option("--pt2", help="Write a torch.export program.")]
TensorRt = Annotated[bool, typer.Option("--tensorrt", help="Build a TensorRT engine (never run with TensorRT).")]
FormatName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The format by its name, such as onnx or pt2.", show_default=False),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the program with AOTInductor.")]
Dynamic = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="Dynamic axes: batch,height,width, with ranges like batch=1:32, or none (default batch, detectors none).",
        show_default=False,
    ),
]
Opset = Annotated[
    int | None,
    typer.Option(metavar="N", help="ONNX opset, 18 to 25 (default 20; 22 for bfloat16).", show_default=False),
]
Fp16 = Annotated[bool, typer.Option("--fp16", help="Write an ONNX file in half precision.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Build the TensorRT engine in bfloat16.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Write an ONNX file quantised to 8-bit integers.")]
Calibrate = Annotated[
    str | None, typer.Option(metavar="DIR", help="Calibration images for int8, or demo.", show_default=False)
]
Data = Annotated[
    str | None, typer.Option(metavar="DIR", help="Images in class folders to measure accuracy on.", show_default=False)
]
Split = Annotated[str, typer.Option(metavar="SPLIT", help="Split of the data, where it has splits.")]
Limit = Annotated[
    int | None, typer.Option(metavar="N", help="Use at most N images of the data.", min=1, show_default=False)
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Images to compare with PyTorch on, or demo (default: the calibration images, or random ones).",
        show_default=False,
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="NUMBER", help="Largest difference allowed, relative to the largest output.", min=0, show_default=False
    ),
]
Preprocess = Annotated[
    bool, typer.Option("--preprocess", help="Take uint8 images (N, H, W, C) and normalise them in the file.")
]
Softmax = Annotated[bool, typer.Option("--softmax", help="Return probabilities.")]
KeepIdentity = Annotated[bool, typer.Option("--keep-identity", help="Keep grafts that are exactly the identity.")]
Shapes = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPES",
        help="Smallest, typical and largest images of an engine: 1x3x224x224,8x3x224x224,32x3x224x224.",
        show_default=False,
    ),
]
LintOnly = Annotated[
    bool, typer.Option("--lint-only", help="Only check the ONNX file against TensorRT's supported operators.")
]
Workspace = Annotated[
    float, typer.Option(metavar="GB", help="Memory for building an engine; 0: all.", min=0, max=10**6)
]
TimingCache = Annotated[Path | None, typer.Option(metavar="FILE", help="TensorRT's timing cache.", show_default=False)]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="Build an engine that later TensorRT versions can run.")
]
HardwareCompatible = Annotated[
    bool, typer.Option("--hardware-compatible", help="Build an engine for all GPUs from Ampere on.")
]
