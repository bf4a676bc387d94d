"""The registry of network sources: parsing, building and weights. A new source is a file in `sources/`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from attn_surgeon.errors import SourceError, nearest, option
from attn_surgeon.validation import validated

if TYPE_CHECKING:
    from torch import nn

    from attn_surgeon.networks.preprocessing import Preprocessing

Scalar: TypeAlias = "bool | int | float | str | tuple[Scalar, ...] | None"


@dataclass(frozen=True)
class SourceSpec:
    """The description of a network and its weights that recipes and artefacts store.

    Args:
        kind: the source, such as `timm`.
        name: the name of the network there, or its factory.
        args: the arguments of the factory.
        weights: `default`, `none`, a name that the source knows, or a file.
        bare: whether the user gave the name without the prefix of a library.
    """

    kind: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "default"
    bare: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        get_source(self.kind)
        if not self.name or not self.weights:
            raise SourceError("a source needs a name and weights", "source")
        object.__setattr__(self, "args", {key: scalar(value) for key, value in self.args.items()})

    @property
    def text(self) -> str:
        """The source as a user writes it."""
        return get_source(self.kind).prefix + self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain JSON values."""
        args = {key: _plain(value) for key, value in self.args.items()}
        return {"kind": self.kind, "name": self.name, "args": args, "weights": self.weights}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SourceSpec:
        """Return the description in plain JSON values; raise SourceError if they are invalid."""
        return validated(cls, values, SourceError, "source")


@dataclass(frozen=True)
class Loaded:
    """A network in eval mode with its preprocessing, class names and notes."""

    model: nn.Module
    spec: SourceSpec
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A source of networks, such as timm or torchvision.

    Args:
        kind: the name of the source in recipes and artefacts.
        form: how its networks are written, for help texts and errors: `timm/NAME`.
        parse: returns the network's name if a text names a network of this source, else None. Raises SourceError if
            it names one but is invalid. Runs before anything is imported or downloaded.
        build: returns the architecture without weights, without internet access.
        load: returns the network with the weights of its spec; if these are a file, builds it only.
        prefix: the prefix with which `parse` accepts a name.
        user_code: whether building runs the user's own code, which must not run only because a file names it.
        pickled: whether its networks are pickles, whose code runs when they are opened even where the user names them.
        has: whether a name without a prefix is one of this source.
        names: the names to offer for completion and in hints, as they are written.
        has_weights: whether a spec's weights are a name that the source knows, other than `default` and `none`.
        classes_argument: the argument for the number of classes, by which a head for other classes is built.
        weights_hint: a hint for weights that are neither a known name nor a file.
    """

    kind: str
    form: str
    parse: Callable[[str], str | None]
    build: Callable[[SourceSpec], nn.Module]
    load: Callable[[SourceSpec], Loaded]
    prefix: str = ""
    user_code: bool = False
    pickled: bool = False
    has: Callable[[str], bool] = lambda name: False
    names: Callable[[], list[str]] = list
    has_weights: Callable[[SourceSpec], bool] = lambda spec: False
    classes_argument: str = "num_classes"
    weights_hint: Callable[[SourceSpec], str] = lambda spec: "check the path"


_SOURCES: dict[str, Source] = {}


def register_source(source: Source) -> None:
    """Register a source of networks; it is tried before those registered earlier."""
    if source.kind in _SOURCES:
        raise SourceError(f"a source '{source.kind}' is registered already", "source")
    _SOURCES[source.kind] = source


def sources() -> list[Source]:
    """Return the sources in the order in which they are tried."""
    return list(_SOURCES.values())[::-1]


def get_source(kind: str) -> Source:
    """Return a source by its kind; raise SourceError if it is unknown."""
    if kind not in _SOURCES:
        hint = nearest(kind, _SOURCES) or f"known: {', '.join(_SOURCES)}"
        raise SourceError(f"unknown kind of source {kind!r}", "source", hint)
    return _SOURCES[kind]


def forms() -> str:
    """Return the forms of networks' names, for errors and help texts."""
    written = [source.form for source in sources() if source.form]
    return f"{', '.join(written[:-1])} or {written[-1]}"


def library_name(text: str, prefixes: Collection[str], has: Callable[[str], bool]) -> str | None:
    """Return the name behind one of a library's prefixes, or None; raise SourceError if it is not a valid name.

    Case is ignored if the library has the name in lower case only.
    """
    prefix, _, name = text.partition("/")
    if prefix.lower() not in prefixes or not name:
        return None
    require_name(name, text)
    return name.lower() if name != name.lower() and not has(name) else name


def require_name(name: str, text: str) -> None:
    """Raise SourceError if a text cannot be a library's name, such as a URL or a path."""
    if ":" in name:
        raise url_error(text)
    if not re.fullmatch(r"[\w.-]+", name):
        raise SourceError("this is not the name of a network", text or "empty", f"write {forms()}")


def url_error(text: str) -> SourceError:
    """Return the error for a URL."""
    return SourceError("networks are not downloaded from URLs", text, f"use timm/NAME with {option('weights', 'FILE')}")


def scalar(value: object) -> Scalar:
    """Return an argument of a factory with lists as tuples; raise SourceError if it is not a plain value."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(scalar(item) for item in value)
    raise SourceError(f"invalid argument {value!r}", "source", "use numbers, strings, true, false, or lists of them")


def _plain(value: Scalar) -> Any:
    """Return a value with tuples as lists, for JSON."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
