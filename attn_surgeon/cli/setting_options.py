"""Command-line options made from the fields of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from attn_surgeon.errors import for_command_line
from attn_surgeon.finetune.settings import FinetuneSettings

PANELS = (
    "Data",
    "Optimisation",
    "What trains",
    "Regularisation",
    "Segmentation",
    "Detection",
    "Run",
)  # in the order of the help


def flag(name: str) -> str:
    """Return a setting's name as typed on the command line."""
    return f"--{name.replace('_', '-')}"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for each field of FinetuneSettings in place of its argument `settings`.

    The function is called with a table of values as `settings`.
    """
    names = [
        item.name for item in sorted(fields(FinetuneSettings), key=lambda item: PANELS.index(item.metadata["panel"]))
    ]

    @wraps(command)
    def wrapped(**values: Any) -> None:
        command(settings={name: values.pop(name) for name in names}, **values)

    known = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "settings":
            parameters += [_parameter(name) for name in names]
        else:
            parameters.append(parameter.replace(annotation=known[parameter.name]))
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def typed(context: typer.Context) -> list[str]:
    """Return the names of the arguments and options given on the command line, not left at their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def option_of(name: str, panel: str | None = None) -> Any:
    """Return the option of a field of FinetuneSettings."""
    item = next(item for item in fields(FinetuneSettings) if item.name == name)
    return typer.Option(
        *((flag(name),) if item.default is False else ()),  # a flag that is off by default needs no --no-...
        help=for_command_line(item.metadata["meaning"]),
        metavar=item.metadata["metavar"],
        show_default=item.default is not None and item.default is not False,
        rich_help_panel=panel or item.metadata["panel"],
    )


def _parameter(name: str) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    default, hint = getattr(FinetuneSettings, name), get_type_hints(FinetuneSettings)[name]
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[hint, option_of(name)])
