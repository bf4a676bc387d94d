"""Remove grafts from a network by selectors or groups of sites; without arguments, all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

from torch import nn

from attn_surgeon.errors import PlanError, SelectorError, counted, excerpt, function, nearest, option
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.rewrite.expected_grafts import remembered
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.rewrite.references import wraps_grafts
from attn_surgeon.surgery.running import Example
from attn_surgeon.surgery.sites.selection import Selectors, group_sites, read_texts
from attn_surgeon.surgery.sites.selectors import is_within, matches
from attn_surgeon.surgery.sites.survey import survey

_Place = tuple[str, Side]


def remove(
    model: nn.Module,
    sites: Selectors | None = None,
    *,
    at: Selectors = (),
    after: Selectors = (),
    before: Selectors = (),
    exclude: Selectors = (),
    example: Example | None = None,
    inplace: bool = False,
) -> nn.Module:
    """Return a network without the grafts at the chosen sites; by default, without any grafts.

    A module whose last graft is removed gets its original class back. A network without grafts is the original in its
    classes, state dict and output.

    Args:
        model: a network with grafts. It is not changed, unless `inplace`.
        sites: selectors of the sites whose grafts to remove, both before and after them.
        at: groups of sites whose grafts to remove, as for `insert`: `"residual"`, `"residual@layer3"`.
        after: selectors of the sites whose grafts after them to remove.
        before: selectors of the sites whose grafts before them to remove.
        exclude: selectors of sites whose grafts to keep, with those inside them.
        example: one input that the network takes, usually (N, C, H, W); only needed with `at`, since groups are found
            by running the network.
        inplace: change `model` itself and return it.

    Returns:
        The network without these grafts: a copy, or `model` itself if `inplace`.

    Raises:
        SelectorError: a selector or a group chooses no graft.
        PlanError: the forward of a module is wrapped by a function that has a reference to the grafts.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> operated = attn_surgeon.insert(load_demo(), "se", after="layer*", example=torch.zeros(1, 1, 32, 32))
        >>> less = attn_surgeon.remove(operated, after="layer[12]")
        >>> [graft.place for graft in attn_surgeon.list_grafts(less)]
        ['after layer3']
        >>> attn_surgeon.remove(operated).state_dict().keys() == load_demo().state_dict().keys()
        True
    """
    _require_unwrapped(model)
    operated = model if inplace else copied(model)
    places = _places(operated)
    everything = sites is None and not (at or after or before)
    finders = [
        *(partial(_at, selector) for selector in read_texts("**" if everything else sites or ())),
        *(partial(_at, selector, side="after") for selector in read_texts(after)),
        *(partial(_at, selector, side="before") for selector in read_texts(before)),
        *(partial(_in_group, operated, example, text) for text in read_texts(at)),
    ]
    chosen = [place for find in finders for place in find(places)]
    excluded = read_texts(exclude)
    removed = [place for place in chosen if not any(is_within(place[0], selector) for selector in excluded)]
    take_out(operated, lambda graft: (graft.site, graft.side) in removed)
    return operated


@contextmanager
def disabled(model: nn.Module, sites: Selectors | None = None) -> Iterator[nn.Module]:
    """Bypass the grafts at the chosen sites until the context ends; by default, all grafts.

    Args:
        model: a network with grafts; bypassed grafts return their input.
        sites: selectors of the sites whose grafts to bypass, both before and after them.

    Yields:
        The same network.

    Raises:
        SelectorError: a selector chooses no graft.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> x = torch.zeros(1, 1, 32, 32)
        >>> network = attn_surgeon.insert(load_demo(), "se", after="layer*", example=x, init="paper")
        >>> with attn_surgeon.disabled(network, "layer[12]"):
        ...     without = network(x)
        >>> torch.equal(without, attn_surgeon.remove(network, "layer[12]")(x))
        True
    """
    grafts = list_grafts(model)
    places = [(item.graft.site, item.graft.side) for item in grafts]
    selectors = read_texts("**" if sites is None else sites)
    chosen = {place for selector in selectors for place in _at(selector, places)}
    with bypassed([item.block for item, place in zip(grafts, places, strict=True) if place in chosen]):
        yield model


def _places(model: nn.Module) -> list[_Place]:
    """Return the places of the grafts in a network, those included that other code has lost."""
    lost = [record for module in model.modules() for record in remembered(module)]
    grafts = [*(item.graft for item in list_grafts(model)), *lost]
    return list(dict.fromkeys((graft.site, graft.side) for graft in grafts))


def _at(selector: str, places: Sequence[_Place], side: Side | None = None) -> list[_Place]:
    """Return the places that a selector matches, on one side or both; raise SelectorError for none."""
    matching = [place for place in places if matches(place[0], selector) and side in (None, place[1])]
    return matching or _raise_no_graft(f"{side or 'at'} '{excerpt(selector)}'", selector, places)


def _in_group(model: nn.Module, example: Example | None, text: str, places: Sequence[_Place]) -> list[_Place]:
    """Return the places in a group of sites; raise SelectorError for none."""
    if example is None:
        raise SelectorError("groups are found by running the network", option("at"), "pass an input as example=…")
    members = {(site.name, side) for site, side in group_sites(survey(model, example), text)}
    # A block of two inputs inserted after a join runs before its first input.
    members |= {(f"{name}:0", "before") for name, side in members if side == "after"}
    in_group = [place for place in places if place in members]
    return in_group or _raise_no_graft(f"in the group '{excerpt(text)}'", text, places)


def _raise_no_graft(what: str, text: str, places: Sequence[_Place]) -> NoReturn:
    names = list(dict.fromkeys(site for site, _ in places))
    if not places:
        raise SelectorError("the network has no grafts", "", f"insert some: {function('insert(…)', 'insert')}")
    where = f"the network has {counted(len(places), 'graft')}"
    raise SelectorError(f"no graft is {what}", where, nearest(text, names) or ", ".join(names[:5]))


def _require_unwrapped(model: nn.Module) -> None:
    """Raise PlanError where a forward is wrapped by a function that would still run the grafts after their removal."""
    wrapped = [path or "the network" for path, module in model.named_modules() if wraps_grafts(module)]
    if wrapped:
        raise PlanError(
            f"the forward of {wrapped[0]} is wrapped by a function that has a reference to the grafts",
            "" if len(wrapped) == 1 else f"and those of {len(wrapped) - 1} other modules",
            "unwrap it first, such as with accelerator.unwrap_model(network, keep_fp32_wrapper=False)",
        )
