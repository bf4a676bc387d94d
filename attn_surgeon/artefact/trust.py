"""Decide whether code that a file names may run.

Artefacts, recipes and run folders are data, shared like weights. They can name code, the factory of a network or of a
block in a Python file or an installed package. It runs only if the user names that code too, or trusts the file.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
from attn_surgeon.artefact.provenance import Provenance
from attn_surgeon.artefact.recipe_schema import Recipe
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.blocks.base.registry import is_known
from attn_surgeon.blocks.base.user_blocks import import_user_blocks
from attn_surgeon.errors import ArtefactError, BlockError, RecipeError, SourceError, first_few, function, option
from attn_surgeon.networks import SourceSpec, parse_source
from attn_surgeon.networks.source import get_source

_USUAL = re.compile(r"(attn_surgeon|torch|ultralytics)\.|builtins\.(frozenset|set)$|collections\.OrderedDict$")


def trusted_source(provenance: Provenance, given: str | None, path: Path, *, trust: bool = False) -> SourceSpec:
    """Return the source to build an artefact's network from: the one given by the user, or else the one it names.

    Args:
        provenance: the provenance stored in the artefact.
        given: the source that the user has named, if any.
        path: the artefact.
        trust: whether code that the artefact names may run.

    Raises:
        ArtefactError: if that would run code that only the artefact names, or if the network was passed in Python.
    """
    spec = provenance.source
    if given is not None:
        require_trusted_pickle(given_source(provenance, given), trust=trust)
        return given_source(provenance, given)
    if spec.kind == "object":
        what = f"the network was passed in Python, as a {spec.name}"
        raise ArtefactError(what, str(path), "load it in Python: attn_surgeon.load(path, model=network)")
    if get_source(spec.kind).user_code and not trust:
        what = "its network is built by code that only the file names, which was not run"
        hint = f"if you trust that code, add {option('source', spec.text)} or {option('trust', True)}"
        raise ArtefactError(what, str(path), hint)
    return spec


def given_source(provenance: Provenance, given: str) -> SourceSpec:
    """Return the source given by the user, with the arguments and weights stored in the artefact."""
    spec = provenance.source
    return replace(parse_source(given), args=spec.args, weights=spec.weights)


def require_trusted_pickle(spec: SourceSpec, *, trust: bool) -> None:
    """Raise SourceError for a network in a pickle that was not trusted; the error lists the code that it names."""
    if get_source(spec.kind).pickled and not trust and Path(spec.name).is_file():
        what = f"the file is a pickle, which runs the code that it names: {first_few(_pickled_names(spec.name))}"
        raise SourceError(what, spec.text, f"it was not opened; if you trust it, add {option('trust', True)}")


def _pickled_names(path: str) -> list[str]:
    """Return the functions and classes that a file of `torch.save` names, those of other packages than usual first."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, OSError, pickle.UnpicklingError):
        return ["it cannot be read"]
    return sorted(names, key=lambda name: (bool(_USUAL.match(name)), name))


def require_blocks(specs: Iterable[BlockSpec], *, trust: bool = False) -> None:
    """Raise BlockError for a block that is neither in the catalogue nor registered, or whose options are invalid.

    With `trust`, a block named as `file.py:Factory` is imported and registered.
    """
    for spec in specs:
        name = import_user_blocks(spec.name) if trust else spec.name
        missing = next((part for part in name.split("+") if not is_known(part)), None)
        if missing is not None:
            raise _unknown(missing)
        BlockSpec.read(name, spec.options, spec.init)


def _unknown(block: str) -> BlockError:
    code = block if ":" in block else f"{block}=file.py:Factory"
    register = function(f"register_block('{block}', factory)", f"… --own {code}")
    also = f", or add {option('trust', True)}" if ":" in block else ""
    return BlockError(f"no block is called '{block}'", "", f"if it is your own, name its code: {register}{also}")


def code_named(recipe: Recipe) -> list[str]:
    """Return the unregistered code that a recipe names, as `file.py:NAME`: its network's first, then its blocks'.

    >>> from attn_surgeon.artefact.recipe_schema import Recipe
    >>> step = {"insert": {"block": "se+odd_gates.py:Weigh", "after": "layer3"}}
    >>> code_named(Recipe.from_dict({"source": "net.py:build", "operations": [step]}))
    ['net.py:build', 'odd_gates.py:Weigh']
    """
    parts = [part for step in recipe.operations for part in step.insert.block.split("+")]
    blocks = [part for part in parts if ":" in part and not is_known(part)]
    return list(dict.fromkeys([*([recipe.source.name] if _is_code(recipe.source.name) else []), *blocks]))


def _is_code(source: str) -> bool:
    return not source.endswith(ARTEFACT_SUFFIX) and get_source(parse_source(source).kind).user_code


def trusted_recipe(recipe: Recipe, file: str, *, source: str | None = None, trust: bool = False) -> Recipe:
    """Return a recipe whose code may run, with its network replaced by `source` if given.

    Args:
        recipe: the recipe.
        file: the recipe's file, for errors.
        source: the network to build instead of the one that the recipe names.
        trust: whether code that the recipe names may run.

    Raises:
        RecipeError: if the recipe names code that was not allowed.
    """
    if source is not None and not recipe.source.name.endswith(ARTEFACT_SUFFIX):
        recipe = replace(recipe, source=replace(recipe.source, name=source))
    named = [code for code in code_named(recipe) if code != source]
    if named and not trust:
        blocks = " ".join(option("own", code) for code in named if code != recipe.source.name)
        network = option("source", recipe.source.name) if recipe.source.name in named else ""
        hint = f"if you trust it, add {option('trust', True)}, or name it: {f'{network} {blocks}'.strip()}"
        raise RecipeError(f"a recipe runs no code by itself, and this one names {first_few(named)}", file, hint)
    return recipe
