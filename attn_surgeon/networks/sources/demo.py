"""The demo networks, which come with the package: a classifier and a detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attn_surgeon.errors import WeightsError, option
from attn_surgeon.networks.constructor_calls import check_arguments, library_errors
from attn_surgeon.networks.source import Loaded, Source, SourceSpec

if TYPE_CHECKING:
    from torch import nn

    from attn_surgeon.networks.preprocessing import Preprocessing

_NAMES = ("demo", "demo-detector")


def _functions(name: str) -> tuple[Callable[..., nn.Module], Callable[[], nn.Module], Preprocessing]:
    """Return what builds a network, what loads it with its weights, and its preprocessing."""
    if name == "demo-detector":
        from attn_surgeon.networks.demo.detector import DETECTOR_PREPROCESSING, demo_detector, load_demo_detector

        return demo_detector, load_demo_detector, DETECTOR_PREPROCESSING
    from attn_surgeon.networks.demo import DEMO_PREPROCESSING, demo, load_demo

    return demo, load_demo, DEMO_PREPROCESSING


def _build(spec: SourceSpec) -> nn.Module:
    factory, _, _ = _functions(spec.name)
    check_arguments(factory, spec.args, spec.name)
    with library_errors(spec.name):
        return factory(**spec.args)


def _load(spec: SourceSpec) -> Loaded:
    from attn_surgeon.networks.demo import CLASS_NAMES

    _, load, preprocessing = _functions(spec.name)
    default = spec.weights == "default"
    if default and spec.args:
        what = "the demo's weights do not fit a network with other arguments"
        raise WeightsError(what, spec.name, f"leave them out, or use {option('weights', 'none')}")
    return Loaded(load() if default else _build(spec), spec, preprocessing, CLASS_NAMES if default else None)


SOURCE = Source(
    kind="demo",
    form="demo",
    parse=lambda text: text.lower() if text.lower() in _NAMES else None,
    build=_build,
    load=_load,
    names=lambda: [*_NAMES],
)
