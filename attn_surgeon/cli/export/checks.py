"""Whether what `export` is asked for makes sense together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from attn_surgeon.cli.options import OptionError
from attn_surgeon.cli.setting_options import flag, typed

FORMATS = ("onnx", "pt2", "tensorrt")
PRECISIONS = ("fp16", "bf16", "int8")
_OF_BUILDING = ("workspace", "timing_cache", "version_compatible", "hardware_compatible")
_OF_ENGINES = ("shapes", "lint_only", *_OF_BUILDING)


def require_sense(context: typer.Context) -> None:
    """Refuse formats that are none or several, precisions that a format has not, and options that would do nothing."""
    given = context.params
    _require_one_format([name for name in FORMATS if given[name]])
    _require_precisions(precisions(given), given)
    idle = _idle(given)
    for name in typed(context):
        if name in idle:
            raise OptionError("it does nothing here", flag(name), idle[name])


def precisions(given: Mapping[str, Any]) -> list[str]:
    """List the precisions that are named."""
    return [name for name in PRECISIONS if given[name]]


def _require_one_format(named: list[str]) -> None:
    if len(named) != 1:
        what = f"{' and '.join(map(flag, named))} cannot be written at once" if named else "no format is named"
        raise OptionError(what, "", f"say one of {', '.join(map(flag, FORMATS))}")


def _require_precisions(named: list[str], given: Mapping[str, Any]) -> None:
    if "bf16" in named and not given["tensorrt"]:
        what = "only TensorRT runs bfloat16 of these formats"
        raise OptionError(what, "--bf16", "say --tensorrt; with --lint-only it writes the ONNX file alone")
    if given["tensorrt"] and len(named) > 1:
        raise OptionError("an engine has one precision", flag(named[1]), f"leave {flag(named[1])} out")
    if named and given["pt2"]:
        raise OptionError("programs have single precision", flag(named[0]), "say --onnx")
    if given["compiled"] and not given["pt2"]:
        raise OptionError("only a program is compiled", "--compile", "say --pt2 --compile")
    if ("int8" in named) != (given["calibrate"] is not None):
        what = "--calibrate is for integers" if given["calibrate"] else "integers need images to find their scales on"
        raise OptionError(what, "", "add --int8" if given["calibrate"] else "add --calibrate DIR")
    if given["output"] is not None and len(named) > 1:
        raise OptionError("two files cannot have one name", "--output", "leave it out, or export one precision")


def _idle(given: Mapping[str, Any]) -> dict[str, str]:
    """Name the options that do nothing beside these, and what to do."""
    idle: dict[str, str] = {}
    if not given["tensorrt"]:
        idle |= dict.fromkeys(_OF_ENGINES, "add --tensorrt")
    if given["tensorrt"]:
        idle["dynamic"] = "an engine's open axes come from --shapes"
    if given["pt2"]:
        idle["opset"] = "programs have no operator sets"
    if not given["onnx"]:
        idle["data"] = "only ONNX files are measured: say --onnx"
    if given["lint_only"]:
        idle |= dict.fromkeys(_OF_BUILDING, "leave it out, or --lint-only")
    if given["data"] is None:
        idle |= dict.fromkeys(("split", "limit"), "add --data DIR")
    return idle
