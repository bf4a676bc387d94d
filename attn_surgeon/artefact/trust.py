"""Whose code may run.

The rule: code runs where the user has written its name, on the command line, in Python or in a recipe, which is a
program to be run like a script. Code never runs because an artefact names it: an artefact is data, passed around like
weights. So for an artefact of a network in the user's own file the source must be given again, and blocks of the
user's own must be registered, before either is built.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attn_surgeon.artefact.provenance import Provenance
from attn_surgeon.blocks.base.registry import is_known
from attn_surgeon.errors import ArtefactError, BlockError, function, option
from attn_surgeon.networks import SourceSpec, parse_source
from attn_surgeon.networks.source import get_source


def trusted_source(provenance: Provenance, given: str | None, path: Path) -> SourceSpec:
    """Return the source to build an artefact's network from: the one the user has given, or a library's.

    Raises ArtefactError where that would run code that only the artefact names, or where only Python has the network.
    """
    spec = provenance.source
    if given is not None:
        return given_source(provenance, given)
    if spec.kind == "object":
        what = f"the network was passed in Python, as a {spec.name}"
        raise ArtefactError(what, str(path), "load it in Python: attn_surgeon.load(path, model=network)")
    if get_source(spec.kind).user_code:
        what = f"the network is built by {spec.text}, and loading an artefact runs no code that the file names"
        raise ArtefactError(what, str(path), f"if you trust that code, add {option('source', spec.text)}")
    return spec


def given_source(provenance: Provenance, given: str) -> SourceSpec:
    """Return the source that the user has given for an artefact, with the arguments and weights of its own."""
    spec = provenance.source
    return replace(parse_source(given), args=spec.args, weights=spec.weights)


def require_registered(block: str) -> None:
    """Raise BlockError for a block, or a part of a stack, that is neither in the catalogue nor registered."""
    missing = next((part for part in block.split("+") if not is_known(part)), None)
    if missing is not None:
        code = missing if ":" in missing else f"{missing}=file.py:Factory"
        register = function(f"register_block('{missing}', factory)", f"… --own {code}")
        raise BlockError(f"no block is called '{missing}'", "", f"if it is your own, name its code: {register}")
