"""The registry of export formats. To add one, register a `Format`.

The `write` of a format prepares the network, writes files, compares them with PyTorch, and returns an `ExportResult`:

    def write(request: ExportRequest) -> ExportResult:
        prepared = prepare(request.network, request.settings)
        target = request.targets["fp32"]
        with staged(target) as temporary:
            module = torch.jit.trace(prepared.module, prepared.example)
            module.save(temporary)
            parity = check_parity(prepared, lambda images: [module(images).detach().numpy()], 1e-4, target.name)
        return ExportResult(prepared=prepared, files=(ExportedFile(target, (parity,)),))

    register_format(Format(name="traced", title="a traced TorchScript file", suffixes=(".ts",), write=write))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError, nearest, option
from attn_surgeon.export.result import ExportResult
from attn_surgeon.export.settings import ExportRequest

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_BUILT_IN = {
    "onnx": "attn_surgeon.export.onnx.format:ONNX",
    "pt2": "attn_surgeon.export.program:PROGRAM",
    "tensorrt": "attn_surgeon.export.tensorrt.format:TENSORRT",
}


@dataclass(frozen=True)
class NoOptions:
    """The options of a format without options."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format that networks are exported to.

    Args:
        name: its name, as in `--format onnx`.
        title: a description of its file, such as "an ONNX file".
        suffixes: the suffixes of its files; the first is that of the main file.
        write: a function that writes the files of a request.
        options: a frozen dataclass of the options that only this format has; the command line sets fields by name.
        precisions: the precisions that it can write.
        several: whether one export can write several precisions.
        names: a function of a stem, precisions and options that returns the names of the files by target, the main
            file last.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    write: Callable[[ExportRequest], ExportResult]
    options: type = NoOptions
    precisions: tuple[str, ...] = ("fp32",)
    several: bool = False
    names: Callable[[str, Sequence[str], Any], Mapping[str, str]] | None = None

    def file_names(self, stem: str, precisions: Sequence[str], options: Any) -> Mapping[str, str]:
        """Return the names of the files by target: `NAME.onnx`, or `NAME-fp16.onnx` in a lower precision."""
        if self.names is not None:
            return self.names(stem, precisions, options)
        return {precision: stem + ending(precision, self.suffixes[0]) for precision in precisions}

    def targets(self, output: str | None, stem: str, precisions: Sequence[str], options: Any) -> dict[str, Path]:
        """Return the paths of the files by target; the last is the main file, whose path is `output` if set."""
        default = self.file_names(stem, precisions, options)
        if output is None:
            return {target: Path(name) for target, name in default.items()}
        *_, main = default
        others = self.file_names(str(Path(output).parent / Path(output).stem), precisions, options)
        return {**{target: Path(name) for target, name in others.items()}, main: Path(output)}

    @property
    def option_names(self) -> tuple[str, ...]:
        """The names of the options that only this format has."""
        return tuple(item.name for item in fields(self.options))


def ending(precision: str, suffix: str) -> str:
    """Return the end of the name of a file in a precision.

    >>> ending("fp32", ".onnx"), ending("fp16", ".onnx")
    ('.onnx', '-fp16.onnx')
    """
    return suffix if precision == "fp32" else f"-{precision}{suffix}"


_REGISTERED: dict[str, Format] = {}


def register_format(new: Format) -> None:
    """Add a format; raise ExportError where its name is taken."""
    if new.name in format_names():
        raise ExportError(f"there is an export format '{new.name}' already", "name", "choose another name")
    _REGISTERED[new.name] = new


def format_names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return (*_BUILT_IN, *_REGISTERED)


def find_format(name: str) -> Format:
    """Return a format by its name; raise ExportError for an unknown one."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in _BUILT_IN:
        hint = nearest(name, format_names()) or f"known: {', '.join(format_names())}"
        raise ExportError(f"unknown export format '{name}'", option("format"), hint)
    module, _, attribute = _BUILT_IN[name].partition(":")
    built_in: Format = getattr(import_module(module), attribute)
    return built_in
