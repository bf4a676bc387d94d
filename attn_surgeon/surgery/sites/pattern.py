"""Patterns of selectors, matched in time linear in pattern × name, without backtracking.

A set of positions in a name is one integer, with bit i set for the position before character i. Each part of a pattern
maps the positions at which it may start to those at which it may end (Baeza-Yates and Gonnet, 1992). Ranges such as
`{1..9}` are compared as numbers and never expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

from attn_surgeon.errors import SelectorError, excerpt

LONGEST = 10_000
SEPARATORS = ".:"
_GLOB = re.compile(r"\*\*|\*|\?|\[[^\]]+\]|\{[^}]*\}")
_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")


class _Name:
    """A site's name, and where in it characters of a kind are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.classes: dict[_Class, int] = {}

    def where(self, accepts: Callable[[str], bool]) -> int:
        return int("0" + "".join("1" if accepts(character) else "0" for character in reversed(self.text)), 2)

    @cached_property
    def inside_parts(self) -> int:
        return self.where(lambda character: character not in SEPARATORS)

    @cached_property
    def characters(self) -> dict[str, int]:
        return {character: self.where(character.__eq__) for character in set(self.text)}

    def digits(self, start: int) -> int:
        """Return how many digits there are from a position on."""
        end = start
        while end < len(self.text) and "0" <= self.text[end] <= "9":
            end += 1
        return end - start


class _Part(Protocol):
    def ends(self, name: _Name, starts: int) -> int: ...


@dataclass(frozen=True)
class _Text:
    text: str

    def ends(self, name: _Name, starts: int) -> int:
        for character in self.text:
            if not starts:
                break
            starts = (starts & name.characters.get(character, 0)) << 1
        return starts


@dataclass(frozen=True)
class _Star:
    """`*`, which stays within one part of a path, or `**`."""

    crosses: bool

    def ends(self, name: _Name, starts: int) -> int:
        if self.crosses:
            lowest = starts & -starts
            return (1 << (len(name.text) + 1)) - lowest
        steps = name.inside_parts
        return (((starts & steps) + steps) ^ steps) | starts  # a carry runs through each run of steps


@dataclass(frozen=True)
class _Class:
    """One character of a class such as `[a-z]`; `?` is all but the separators."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def ends(self, name: _Name, starts: int) -> int:
        if self not in name.classes:
            name.classes[self] = name.where(self._accepts)
        return (starts & name.classes[self]) << 1

    def _accepts(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) != self.negated


@dataclass(frozen=True)
class _Numbers:
    """The numbers from one to another, as digits without leading zeros."""

    least: str
    most: str

    def ends(self, name: _Name, starts: int) -> int:
        found = 0
        for start in _positions(starts):
            digits = 1 if name.text[start : start + 1] == "0" else name.digits(start)
            for length in range(len(self.least), min(digits, len(self.most)) + 1):
                found |= self._contains(name.text[start : start + length]) << (start + length)
        return found

    def _contains(self, number: str) -> bool:
        longer, shorter = len(number) > len(self.least), len(number) < len(self.most)
        return (longer or number >= self.least) and (shorter or number <= self.most)


@dataclass(frozen=True)
class _Choice:
    choices: tuple[tuple[_Part, ...], ...]

    def ends(self, name: _Name, starts: int) -> int:
        found = 0
        for choice in self.choices:
            found |= _ends(choice, name, starts)
        return found


@dataclass(frozen=True)
class Pattern:
    """A selector that was read, to be matched with names."""

    parts: tuple[_Part, ...]

    def matches(self, name: str) -> bool:
        """Return whether the pattern matches a whole name.

        >>> compile_pattern("layer{1..3}.*").matches("layer2.conv")
        True
        """
        if self._plain is not None:
            return name == self._plain
        return bool(_ends(self.parts, _Name(name), 1) >> len(name))

    @cached_property
    def _plain(self) -> str | None:
        """The one name that a pattern without globs matches."""
        match self.parts:
            case (_Text(text),):
                return text
        return None

    def is_around(self, name: str) -> bool:
        """Return whether the pattern matches a name, or something that it is inside."""
        ends = _ends(self.parts, _Name(name), 1)
        return any(end == len(name) or name[end] in SEPARATORS for end in _positions(ends))


@lru_cache(maxsize=256)
def compile_pattern(selector: str) -> Pattern:
    """Return a selector as a pattern; raise SelectorError where it is invalid."""
    if len(selector) > LONGEST:
        what = f"a selector has at most {LONGEST:,} characters, and '{excerpt(selector)}' has {len(selector):,}"
        raise SelectorError(what, "", "give several selectors")
    try:
        return Pattern(tuple(_parts(selector)))
    except ValueError as error:
        what = f"'{excerpt(selector)}' is an invalid pattern: {error}"
        raise SelectorError(what, "", "ranges run upwards: [0-9], [a-z]") from None


def _ends(parts: tuple[_Part, ...], name: _Name, starts: int) -> int:
    for part in parts:
        if not starts:
            return 0
        starts = part.ends(name, starts)
    return starts


def _positions(bits: int) -> Iterator[int]:
    return (match.start() for match in re.finditer("1", f"{bits:b}"[::-1]))


def _parts(selector: str) -> Iterator[_Part]:
    end = 0
    for glob in _GLOB.finditer(selector):
        if glob.start() > end:
            yield _Text(selector[end : glob.start()])
        yield _part(glob.group())
        end = glob.end()
    if selector[end:]:
        yield _Text(selector[end:])


def _part(glob: str) -> _Part:
    if glob.startswith("["):
        return _character_class(glob[1:-1])
    if numbers := _RANGE.fullmatch(glob):
        least, most = (number.lstrip("0") or "0" for number in numbers.groups())
        return _Numbers(least, most)
    if glob.startswith("{"):
        return _Choice(tuple(dict.fromkeys(tuple(_parts(choice)) for choice in glob[1:-1].split(","))))
    if glob == "?":
        return _Class(tuple((separator, separator) for separator in SEPARATORS), negated=True)
    return _Star(crosses=glob == "**")


def _character_class(inside: str) -> _Class:
    negated = inside[0] in "!^"
    listed = inside[1:] if negated else inside
    if not listed:
        raise ValueError("a class of no characters")
    return _Class(tuple(dict.fromkeys(_character_ranges(listed))), negated)


def _character_ranges(listed: str) -> Iterator[tuple[str, str]]:
    for text in re.findall(".-.|.", listed, re.DOTALL):
        if text[-1] < text[0]:
            raise ValueError(f"bad character range {text}")
        yield text[0], text[-1]
