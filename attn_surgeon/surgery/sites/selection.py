"""Select the sites to operate on by selectors, groups and filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from attn_surgeon.errors import SelectorError, excerpt, nearest, option
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.sites.groups import GROUPS, SINGULARS, Member
from attn_surgeon.surgery.sites.inputs import describe_inputs
from attn_surgeon.surgery.sites.layouts import LAYOUTS
from attn_surgeon.surgery.sites.selectors import LIST_SITES, is_within, select
from attn_surgeon.surgery.sites.site import Site
from attn_surgeon.surgery.sites.survey import Survey

MOST_SELECTORS = 10_000  # in one option
_MOST_ERRORS = 3  # in one message
Selectors = str | Iterable[str]
ChosenSite = tuple[Site, Side]


@dataclass(frozen=True)
class Selection:
    """The sites to operate on.

    Args:
        at: groups, or GROUP@SELECTOR for their members within a module.
        after: selectors of the sites to insert after.
        before: selectors of the sites to insert before.
        exclude: selectors of sites to leave out, with those inside them.
        min_channels: leave out sites with fewer channels.
        every: keep every n-th of the remaining sites.
        last: keep the last n of these; 0 keeps all.
        with_: the site of the second tensor of a block of two inputs.
        layout: the layout of the tensors, instead of the inferred one.
    """

    at: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_channels: int = 0
    every: int = 1
    last: int = 0
    with_: str = ""
    layout: str = ""

    @classmethod
    def read(cls, **values: Any) -> Self:
        """Validate the values of fields; raise SelectorError where one is invalid or no site is named."""
        defaults = {field.name: field.default for field in fields(cls)}
        selection = cls(**{name: _read(name, value, defaults[name]) for name, value in values.items()})
        if not selection.at and not selection.after and not selection.before:
            raise SelectorError("no site is named", "", f"name some with {_options('after', 'before', 'at')}")
        if selection.layout and selection.layout not in LAYOUTS:
            hint = nearest(selection.layout, LAYOUTS) or f"it is one of {', '.join(LAYOUTS)}"
            raise SelectorError(f"no layout is called '{excerpt(selection.layout)}'", option("layout"), hint)
        return selection


def _options(*names: str) -> str:
    *others, last = map(option, names)
    return f"{', '.join(others)} or {last}"


def _read(name: str, value: object, default: object) -> Any:
    """Validate a field's value by the field's default: strings, one string, or a count that is at least as large."""
    if isinstance(default, tuple):
        return read_texts(value)
    if isinstance(default, str):
        if not isinstance(value, str):
            raise SelectorError(f"{name} takes a string, not {excerpt(repr(value))}", option(name))
        return value
    if not isinstance(value, int) or isinstance(value, bool) or (isinstance(default, int) and value < default):
        raise SelectorError(
            f"{name} takes a whole number of at least {default}, not {excerpt(repr(value))}", option(name)
        )
    return value


def read_texts(selectors: object) -> tuple[str, ...]:
    """Return selectors as a tuple without duplicates; raise SelectorError if they are not strings."""
    texts = (selectors,) if isinstance(selectors, str) else selectors
    listed = tuple(texts) if isinstance(texts, Iterable) else ()
    if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in listed):
        raise SelectorError(
            f"sites are named by strings, not by {excerpt(repr(selectors))}", "", "such as after='layer3'"
        )
    if len(listed) > MOST_SELECTORS:
        raise SelectorError(f"{len(listed):,} selectors are too many", "", f"give at most {MOST_SELECTORS:,}, or globs")
    return tuple(dict.fromkeys(listed))


def choose(survey: Survey, selection: Selection) -> list[ChosenSite]:
    """Return the chosen sites with their sides; raise one SelectorError for all selectors that choose nothing."""
    finders = [
        *((group_sites, text) for text in selection.at),
        *((_sites_after, text) for text in selection.after),
        *((_sites_before, text) for text in selection.before),
        *((_require_excluded, text) for text in selection.exclude),
    ]
    chosen: dict[tuple[str, Side], ChosenSite] = {}
    errors: list[SelectorError] = []
    for find, text in finders:
        try:
            chosen |= {(site.name, side): (site, side) for site, side in find(survey, text)}
        except SelectorError as error:
            errors.append(error)
        if len(errors) == _MOST_ERRORS:  # each takes a search for the nearest names
            break
    if errors:
        raise _joined(errors)
    return _filtered(list(chosen.values()), selection)


def _joined(errors: Sequence[SelectorError]) -> SelectorError:
    if len(errors) == 1:
        return errors[0]
    what = "; ".join(f"{error.what} ({error.hint})" for error in errors)
    return SelectorError(what, errors[0].where, f"list them with {LIST_SITES}")


def _sites_after(survey: Survey, selector: str) -> list[ChosenSite]:
    return [(site, "after") for site in select(survey.sites, selector, survey.unused)]


def _sites_before(survey: Survey, selector: str) -> list[ChosenSite]:
    try:
        return [(site, "before") for site in select(survey.sites, selector, survey.unused)]
    except SelectorError as error:
        name = selector.partition(":")[0]
        inputs = describe_inputs(survey.observation, name) if name != selector else ""
        if not inputs:
            raise
        raise SelectorError(error.what, error.where, inputs) from None


def group_sites(survey: Survey, text: str) -> list[ChosenSite]:
    """Return the sites of GROUP, or for GROUP@SELECTOR those that the selector names or that are inside."""
    name, _, within = text.partition("@")
    group = SINGULARS.get(name, name)
    if group not in GROUPS:
        hint = nearest(name, GROUPS) or f"the groups are {', '.join(GROUPS)}"
        raise SelectorError(f"no group is called '{excerpt(name)}'", option("at"), hint)
    members = survey.groups[group]
    if not members:
        there = [name for name, listed in survey.groups.items() if listed]
        raise SelectorError(f"the network has no {group}", option("at"), f"it has {', '.join(there)}")
    kept = [member for member in members if not within or is_within(member[0], within)]
    if not kept:
        raise _none_within(text, members)
    return [(survey.by_name[name], side) for name, side in kept]


def _none_within(text: str, members: Sequence[Member]) -> SelectorError:
    names = [name for name, _ in members]
    hint = nearest(text.partition("@")[2], names) or f"its members are {', '.join(names[:5])} …"
    return SelectorError(f"'{excerpt(text)}' names none of the group", f"it has {len(names)} members", hint)


def _require_excluded(survey: Survey, selector: str) -> list[ChosenSite]:
    """Return no sites; raise SelectorError where the selector names nothing to exclude."""
    if any(is_within(site.name, selector) for site in survey.sites):
        return []
    hint = nearest(selector, survey.by_name) or f"list them with {LIST_SITES}"
    where = f"the network has {len(survey.sites)} sites"
    raise SelectorError(f"no site to exclude is called '{excerpt(selector)}'", where, hint)


def _filtered(chosen: list[ChosenSite], selection: Selection) -> list[ChosenSite]:
    kept = [item for item in chosen if not any(is_within(item[0].name, text) for text in selection.exclude)]
    kept = [(site, side) for site, side in kept if _channels(site, side) >= selection.min_channels]
    kept = kept[:: selection.every]
    kept = kept[-selection.last :] if selection.last else kept
    if not kept:
        raise SelectorError("the filters leave none of the chosen sites", f"{len(chosen)} were chosen", "relax them")
    return kept


def _channels(site: Site, side: Side) -> int:
    """Return the channels at a site; one without a feature map passes the filter, so that the plan gives the reason."""
    feature = site.feature(side)
    return 2**31 if feature is None else feature.channels
