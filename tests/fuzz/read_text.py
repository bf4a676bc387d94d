"""Selectors, options and recipes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from attn_surgeon.artefact.insertion import Insertion
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.recipe import read_recipe
from attn_surgeon.artefact.trust import trusted_recipe
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.blocks.base.registry import block_names
from attn_surgeon.cli.options import read_images, read_pairs, read_shape, read_size
from attn_surgeon.networks import DEFAULT_PREPROCESSING, build_network, parse_source
from attn_surgeon.networks.source import get_source
from attn_surgeon.operations.block_fitting import fit_block
from attn_surgeon.surgery.plan import UnfitError
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.selection import Selection, choose
from attn_surgeon.surgery.sites.survey import Survey, survey
from tests.fuzz.draws import changed, damaged, scalars, texts, values
from tests.fuzz.kinds import FuzzKind

_PIECES = [
    "layer1",
    "layer2",
    "layer3",
    "bn1",
    "conv1",
    "add",
    "relu_1",
    "*",
    "**",
    "?",
    "[12]",
    "[!a]",
    "[",
    "]",
    "{",
    "}",
    "{a,b}",
    "{1..3}",
    "{9..1}",
    "{0..999999999}",
    "{a..z}",
    ",",
    "..",
    ".",
    "@",
    ":",
    ":0",
    "stages",
    "residual",
    "stages@",
    "\\",
    "(",
    ")",
    "+",
    "|",
    "^",
    "$",
    "(a+)+",
    "0",
    "9" * 30,
    " ",
    "ü",
    "\x00",
    "!",
]
_RECIPE = {
    "source": {"name": "demo", "weights": "none", "args": {"num_classes": 3}},
    "images": {"mean": [0.5], "std": [0.5], "size": [32, 32]},
    "operations": [
        {"insert": {"block": "se", "after": ["layer3"], "options": {"reduction": 8}, "init": "identity", "every": 1}},
        {"insert": {"block": "cbam", "before": "fc", "exclude": ["x"], "min_channels": 4, "layout": "NCHW"}},
    ],
    "strict": True,
    "seed": 3,
    "output": "x.safetensors",
}
_OPTIONS = (
    "reduction",
    "kernel_size",
    "gate",
    "bias",
    "norm",
    "activation",
    "least",
    "heads",
    "window",
    "se.reduction",
    "",
)


@cache
def _survey() -> Survey:
    loaded = open_network("demo")
    return survey(loaded.model, loaded.example)


def _selectors() -> SearchStrategy[Any]:
    pieces = st.sampled_from(_PIECES) | st.text(max_size=5)
    return st.tuples(
        st.sampled_from(["after", "before", "at", "exclude", "with_", "layout"]), st.lists(pieces, max_size=12)
    )


def _choose(case: tuple[str, list[str]]) -> None:
    name, pieces = case
    text = "".join(pieces)
    selection = Selection.read(**{"after": "layer3", name: text})
    choose(_survey(), selection)


def _insert_options() -> SearchStrategy[Any]:
    names = st.sampled_from(["at", "after", "before", "exclude", "min_channels", "every", "last", "with_", "layout"])
    return st.tuples(
        st.dictionaries(names, values, max_size=4), texts, texts, texts, st.dictionaries(texts, values, max_size=3)
    )


def _read_options(case: tuple[dict[str, Any], str, str, str, dict[str, Any]]) -> None:
    selection, one, two, three, arguments = case
    for read in (
        lambda: choose(_survey(), Selection.read(**selection)),
        lambda: read_size(one),
        lambda: read_shape(two),
        lambda: read_pairs([one, two], "--set"),
        lambda: read_images(one, two, three).applied(DEFAULT_PREPROCESSING),
        lambda: parse_source(one, args=arguments, weights=two),
    ):
        try:
            read()
        except Exception as error:
            _raise_unless_refused(error)


def _raise_unless_refused(error: Exception) -> None:
    from attn_surgeon.errors import SurgeonError
    from tests.fuzz.judge import _require_short

    if not isinstance(error, SurgeonError):
        raise error
    _require_short(error)


def _block_options() -> SearchStrategy[Any]:
    names = st.sampled_from(block_names())
    stacks = st.lists(names | texts, min_size=1, max_size=3).map("+".join)
    options = st.dictionaries(st.sampled_from(_OPTIONS) | texts, scalars, max_size=3)
    shapes = st.sampled_from([(1, 64, 8, 8), (1, 3, 1, 1), (1, 7, 5, 3), (1, 1, 1, 2)])
    return st.tuples(names | stacks, options, st.sampled_from(["identity", "paper"]) | texts, shapes)


def _fit_block(case: tuple[str, dict[str, Any], str, tuple[int, ...]]) -> None:
    name, options, init, shape = case
    spec = BlockSpec.read(name, options, init)
    try:
        with torch.device("meta"):
            fit_block(spec, Feature(shape, "float32", "NCHW", shape[1]), None)
    except UnfitError:
        return


def _recipes() -> SearchStrategy[Any]:
    text = yaml.safe_dump(_RECIPE).encode()
    whole = changed(_RECIPE).map(lambda data: yaml.dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))
    return whole | damaged(text) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))


def _read_recipe(content: bytes) -> None:
    Path("r.yaml").write_bytes(content)
    recipe = trusted_recipe(read_recipe("r.yaml"), "r.yaml")
    for step in recipe.operations:
        Insertion(BlockSpec.read(step.insert.block, step.insert.options, step.insert.init), step.insert.selection())
    recipe.images.applied(DEFAULT_PREPROCESSING)
    if not recipe.source.name.endswith(".safetensors"):
        spec = parse_source(recipe.source.name, args=recipe.source.args, weights=recipe.source.weights)
        if get_source(spec.kind).kind == "demo":
            build_network(spec)


KINDS = {
    "selectors": FuzzKind(_selectors, _choose),
    "insert options": FuzzKind(_insert_options, _read_options),
    "block options": FuzzKind(_block_options, _fit_block),
    "recipes": FuzzKind(_recipes, _read_recipe),
}
