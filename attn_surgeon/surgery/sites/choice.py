"""Which sites to operate on: selectors and groups, and filters over what they choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, TypedDict

from attn_surgeon.errors import SelectorError, nearest
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.sites.groups import GROUPS, Member
from attn_surgeon.surgery.sites.layouts import LAYOUTS
from attn_surgeon.surgery.sites.selectors import is_within, select
from attn_surgeon.surgery.sites.site import Site
from attn_surgeon.surgery.sites.survey import Survey

Selectors = str | Iterable[str]
Chosen = tuple[Site, Side]


class Selection(TypedDict, total=False):
    """The keywords that choose sites; `Choice` tells what they mean."""

    at: Selectors
    after: Selectors
    before: Selectors
    exclude: Selectors
    min_channels: int
    every: int
    last: int
    with_: str
    layout: str


@dataclass(frozen=True)
class Choice:
    """What was asked for: groups (`at`, also as GROUP@GLOB), and selectors of sites to operate after or before.

    Of what these choose, `exclude` leaves out what its selectors name and what is inside it, `min_channels` the
    narrower ones; then every n-th stays, and of those the `last` so many (0 for all). `with_` names the site of the
    second tensor for blocks of two inputs, `layout` overrides what the axes were found to mean.
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
    def read(cls, selection: Selection) -> Self:
        """Check what was asked for; raise SelectorError where it names no site or makes no sense."""
        for name in selection:
            if name not in Selection.__annotations__:
                hint = nearest(name, Selection.__annotations__) or f"there is {', '.join(Selection.__annotations__)}"
                raise SelectorError(f"sites are not chosen by '{name}'", "", hint)
        choice = cls(
            read_texts(selection.get("at", ())),
            read_texts(selection.get("after", ())),
            read_texts(selection.get("before", ())),
            read_texts(selection.get("exclude", ())),
            _count("min_channels", selection.get("min_channels", 0), 0),
            _count("every", selection.get("every", 1), 1),
            _count("last", selection.get("last", 0), 0),
            _text("with_", selection.get("with_", "")),
            _text("layout", selection.get("layout", "")),
        )
        if not choice.at and not choice.after and not choice.before:
            raise SelectorError("no site is named", "", "name some with --after, --before or --at")
        if choice.layout and choice.layout not in LAYOUTS:
            hint = nearest(choice.layout, LAYOUTS) or f"it is one of {', '.join(LAYOUTS)}"
            raise SelectorError(f"no layout is called '{choice.layout}'", "--layout", hint)
        return choice


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise SelectorError(f"{name}={value!r} is no text", "", "such as with_='encoder.layer2', layout='NHWC'")
    return value


def _count(name: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SelectorError(f"{name}={value} is no count", "", f"it is a whole number, at least {least}")
    return value


def read_texts(selectors: object) -> tuple[str, ...]:
    """Read selectors: one text or several; raise SelectorError where they are no text."""
    texts = (selectors,) if isinstance(selectors, str) else selectors
    listed = tuple(texts) if isinstance(texts, Iterable) else ()
    if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in listed):
        raise SelectorError(f"a site is named by text, not by {selectors!r}", "", "such as after='layer3'")
    return listed


def choose(found: Survey, choice: Choice) -> list[Chosen]:
    """Choose sites with their sides; raise SelectorError for all selectors that choose nothing, together."""
    chosen: dict[tuple[str, Side], Chosen] = {}
    errors: list[SelectorError] = []
    wishes: list[tuple[str, Side | None]] = [(text, None) for text in choice.at]
    wishes += [(text, "after") for text in choice.after] + [(text, "before") for text in choice.before]
    for text, wished in wishes:
        try:
            found_there = _members(found, text) if wished is None else _sided(found, text, wished)
            chosen |= {(site.name, side): (site, side) for site, side in found_there}
        except SelectorError as error:
            errors.append(error)
    errors += [_excludes_nothing(found, text) for text in choice.exclude if not _names(found, text)]
    if errors:
        raise _joined(errors)
    return _filtered(list(chosen.values()), choice)


def _joined(errors: Sequence[SelectorError]) -> SelectorError:
    if len(errors) == 1:
        return errors[0]
    each = "; ".join(f"{error.what} ({error.hint})" for error in errors)
    return SelectorError(each, errors[0].where, "list them with: attn-surgeon inspect NETWORK")


def _sided(found: Survey, selector: str, side: Side) -> list[Chosen]:
    return [(site, side) for site in select(found.sites, selector, found.unused)]


def _members(found: Survey, text: str) -> list[Chosen]:
    """List a group's members, or those among them that are at or inside what a selector names."""
    group, _, within = text.partition("@")
    if group not in GROUPS:
        hint = nearest(group, GROUPS) or f"the groups are {', '.join(GROUPS)}"
        raise SelectorError(f"no group is called '{group}'", "--at", hint)
    members = found.groups[group]
    if not members:
        there = [name for name, listed in found.groups.items() if listed]
        raise SelectorError(f"the network has no {group}", "--at", f"it has {', '.join(there)}")
    kept = [member for member in members if not within or is_within(member[0], within)]
    if not kept:
        raise _none_within(text, members)
    return [(found.by_name[name], side) for name, side in kept]


def _none_within(text: str, members: Sequence[Member]) -> SelectorError:
    names = [name for name, _ in members]
    hint = nearest(text.partition("@")[2], names) or f"its members are {', '.join(names[:5])} …"
    return SelectorError(f"'{text}' names none of the group", f"it has {len(names)} members", hint)


def _names(found: Survey, selector: str) -> bool:
    return any(is_within(site.name, selector) for site in found.sites)


def _excludes_nothing(found: Survey, selector: str) -> SelectorError:
    hint = nearest(selector, [site.name for site in found.sites]) or "list them with: attn-surgeon inspect NETWORK"
    return SelectorError(
        f"no site to exclude is called '{selector}'", f"the network has {len(found.sites)} sites", hint
    )


def _filtered(chosen: list[Chosen], choice: Choice) -> list[Chosen]:
    kept = [item for item in chosen if not any(is_within(item[0].name, text) for text in choice.exclude)]
    kept = [(site, side) for site, side in kept if _channels(site, side) >= choice.min_channels]
    kept = kept[:: choice.every]
    kept = kept[-choice.last :] if choice.last else kept
    if not kept:
        raise SelectorError("the filters leave none of the chosen sites", f"{len(chosen)} were chosen", "loosen them")
    return kept


def _channels(site: Site, side: Side) -> int:
    """Count the channels at a site; one where no map flows stays, so that the plan says so."""
    feature = site.feature(side)
    return 2**31 if feature is None else feature.channels
