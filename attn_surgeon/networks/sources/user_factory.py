"""Networks of the user's own: a factory in a file or in a module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attn_surgeon.errors import SourceError
from attn_surgeon.networks.constructor_calls import check_arguments
from attn_surgeon.networks.preprocessing import DEFAULT_PREPROCESSING
from attn_surgeon.networks.source import Loaded, Source, SourceSpec, forms, url_error
from attn_surgeon.user_code import found

if TYPE_CHECKING:
    from torch import nn

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_REMOTE = {"hf-hub", "hf_hub", "local-dir", "local_dir", "http", "https", "file", "git"}


def _parse_file(text: str) -> str | None:
    if ".py:" not in text and not text.endswith(".py"):
        return None
    path, _, factory = text.rpartition(".py:")
    if path and factory.isidentifier():
        return text
    raise SourceError("no factory is named", text, f"write {text.partition('.py')[0]}.py:FACTORY")


def _parse_module(text: str) -> str | None:
    if ":" not in text:
        return None
    if text.partition(":")[0].lower() in _REMOTE:
        raise url_error(text)
    if _MODULE.fullmatch(text):
        return text
    raise SourceError("this is not the name of a network", text, f"write {forms()}")


def _build(spec: SourceSpec) -> nn.Module:
    from torch import nn

    from attn_surgeon.surgery.isolation import copied

    with found(spec.name, SourceError) as factory:
        if isinstance(factory, nn.Module):
            check_arguments(lambda: None, spec.args, spec.name)
            return copied(factory)  # the module stays imported, so its network must not be changed
        check_arguments(factory, spec.args, spec.name)
        model = factory(**spec.args)
        if isinstance(model, nn.Module):
            return model
        raise SourceError(f"the factory returned {type(model).__name__}, not a network", spec.name)


def _load(spec: SourceSpec) -> Loaded:
    note = f"no weights were given: the network has those that {spec.name} gave it"
    return Loaded(_build(spec), spec, DEFAULT_PREPROCESSING, notes=(note,) if spec.weights == "default" else ())


FILE = Source("file", "FILE.py:FACTORY", _parse_file, _build, _load, user_code=True)
MODULE = Source("module", "package.module:FACTORY", _parse_module, _build, _load, user_code=True)
