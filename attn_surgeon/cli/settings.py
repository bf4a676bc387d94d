"""An option for every setting of a fine-tune, made from the settings themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from attn_surgeon.finetune.settings import Settings, flag

_NAMES = tuple(item.name for item in fields(Settings))


def with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the settings' options in place of its argument `settings`, which it gets as a table of values."""

    @wraps(verb)
    def wrapped(**given: Any) -> None:
        verb(settings={name: given.pop(name) for name in _NAMES}, **given)

    known = get_type_hints(verb, include_extras=True)
    own = inspect.signature(verb).parameters.values()
    parameters = [
        made
        for parameter in own
        for made in (
            _parameters() if parameter.name == "settings" else [parameter.replace(annotation=known[parameter.name])]
        )
    ]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def typed(context: typer.Context) -> list[str]:
    """Name the arguments and options that were typed, not left at their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _parameters() -> list[inspect.Parameter]:
    """Make a parameter of each setting."""
    hints = get_type_hints(Settings)
    return [
        inspect.Parameter(
            item.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=item.default,
            annotation=Annotated[hints[item.name], _option(item.name, item.default, item.metadata)],
        )
        for item in fields(Settings)
    ]


def _option(name: str, default: object, metadata: Any) -> Any:
    names = (flag(name),) if default is False else ()  # what is off anyway needs no --no-…
    shown = default not in (None, False)
    return typer.Option(*names, help=metadata["meaning"], metavar=metadata["metavar"], show_default=shown)
