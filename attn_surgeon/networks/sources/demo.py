"""The demo network, which comes with the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attn_surgeon.errors import WeightsError, option
from attn_surgeon.networks.constructor_calls import check_arguments, library_errors
from attn_surgeon.networks.source import Loaded, Source, SourceSpec

if TYPE_CHECKING:
    from torch import nn


def _build(spec: SourceSpec) -> nn.Module:
    from attn_surgeon.networks.demo import demo

    check_arguments(demo, spec.args, "demo")
    factory: Callable[..., nn.Module] = demo
    with library_errors("demo"):
        return factory(**spec.args)


def _load(spec: SourceSpec) -> Loaded:
    from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, load_demo

    default = spec.weights == "default"
    if default and spec.args:
        what = "the demo's weights do not fit a network with other arguments"
        raise WeightsError(what, "demo", f"leave them out, or use {option('weights', 'none')}")
    model = load_demo() if default else _build(spec)
    return Loaded(model, spec, DEMO_PREPROCESSING, CLASS_NAMES if default else None)


SOURCE = Source(
    kind="demo",
    form="demo",
    parse=lambda text: "demo" if text.lower() == "demo" else None,
    build=_build,
    load=_load,
    names=lambda: ["demo"],
)
