"""Checks of combinations of options of `export`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from attn_surgeon.cli.options import OptionError
from attn_surgeon.cli.setting_options import typed
from attn_surgeon.errors import nearest, option
from attn_surgeon.export.formats import PRECISIONS, Format, find_format, format_names

_FLAGS = ("onnx", "pt2", "tensorrt")  # short for --format NAME
_BUILD_OPTIONS = ("workspace", "timing_cache", "version_compatible", "hardware_compatible")
_DATA_OPTIONS = ("split", "limit")
_OPTION_NAMES = {"compiled": "compile"}  # parameters whose option has another name


def chosen_format(values: Mapping[str, Any]) -> Format:
    """Return the format that was chosen; raise OptionError for none or several."""
    named = [name for name in _FLAGS if values[name]]
    named += [values["format"]] if values["format"] is not None and values["format"] not in named else []
    if len(named) != 1:
        options = [option(name, True) if name in _FLAGS else option("format", name) for name in named]
        what = f"{' and '.join(options)} exclude each other" if named else "no format was given"
        raise OptionError(what, "", f"use one of {', '.join(option(name, True) for name in _FLAGS)}, or --format")
    if named[0] not in format_names():
        hint = nearest(named[0], format_names()) or f"known: {', '.join(format_names())}"
        raise OptionError(f"unknown export format '{named[0]}'", option("format"), hint)
    return find_format(named[0])


def chosen_precisions(values: Mapping[str, Any], chosen: Format) -> list[str]:
    """Return the chosen precisions, by default fp32; raise OptionError for one that the format does not support."""
    named = [name for name in PRECISIONS if values.get(name)]
    for name in named:
        if name not in chosen.precisions:
            others = [other for other in format_names() if name in find_format(other).precisions]
            hint = f"{' and '.join(others)} can"
            raise OptionError(f"{chosen.title} does not support this precision", option(name, True), hint)
    if len(named) > 1 and not chosen.several:
        raise OptionError(f"{chosen.title} has one precision", option(named[1], True), "export twice")
    if len(named) > 1 and values["output"] is not None:
        raise OptionError("two files cannot have one name", option("output"), "leave it out, or export one precision")
    if ("int8" in named) != (values["calibrate"] is not None):
        if values["calibrate"]:
            raise OptionError("only int8 is calibrated", option("calibrate"), f"add {option('int8', True)}")
        raise OptionError("int8 needs images to calibrate on", "", f"add {option('calibrate', 'DIR')}")
    return named or ["fp32"]


def require_effect(context: typer.Context, chosen: Format) -> None:
    """Raise OptionError for an option that was given and has no effect here."""
    values = context.params
    without_effect = _options_of_other_formats(chosen)
    if chosen.name == "tensorrt":
        without_effect["dynamic"] = f"use {option('shapes')} for an engine's dynamic axes"
    if values["lint_only"]:
        without_effect |= dict.fromkeys(_BUILD_OPTIONS, f"leave it out, or {option('lint_only', True)}")
    if values["data"] is None:
        without_effect |= dict.fromkeys(_DATA_OPTIONS, f"add {option('data', 'DIR')}")
    for name in typed(context):
        if name in without_effect:
            where = option(_OPTION_NAMES.get(name, name))
            raise OptionError(f"this option has no effect on {chosen.title}", where, without_effect[name])


def _options_of_other_formats(chosen: Format) -> dict[str, str]:
    """Return the options that only other formats have, with a hint."""
    formats = [find_format(name) for name in format_names()]
    names = {name for other in formats for name in other.option_names} - set(chosen.option_names)
    having = {name: [other.name for other in formats if name in other.option_names] for name in names}
    return {name: f"it is for {option('format', ' or '.join(others))}" for name, others in having.items()}
