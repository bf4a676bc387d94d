"""Read the cost formulas on cards: `3Cm + 2m, m = max(8, C/r)` as a number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import floor, log2

from attn_surgeon.blocks import Card

OPTIONS = {"r": "reduction", "k": "kernel_size", "h": "heads", "g": "groups", "s": "window"}
_SUPERSCRIPTS = {"²": "**2", "³": "**3", "⁴": "**4"}
_TOKENS = re.compile(r"(max|min|log2|sqrt)|(\d+(?:\.\d+)?)|([A-Za-z])|([²³⁴])|(⌊)|(⌋)|([-+·/(),])|\s+|(.)")


def evaluate(text: str, card: Card, channels: int, height: int, width: int, **options: int) -> float:
    """Evaluate a card's formula; names are options, default where not given, or defined after it or the parameters."""
    known: dict[str, float] = {"C": channels, "H": height, "W": width}
    values = {option.name: option.default for option in card.options} | options
    for letter, option in OPTIONS.items():
        if isinstance(value := values.get(option), int | float):
            known[letter] = value
    formula, *definitions = _split(text)
    definitions = definitions or _split(card.parameters)[1:]
    for definition in reversed(definitions):
        name, _, value = definition.partition(" = ")
        known[name] = _value(value, known)
    return _value(formula, known)


def _split(text: str) -> list[str]:
    return re.split(r",\s*(?=[A-Za-z] = )", text)


def _value(text: str, known: Mapping[str, float]) -> float:
    functions = {"max": max, "min": min, "log2": log2, "floor": floor, "sqrt": lambda value: value**0.5}
    result: float = eval(_python(text), {"__builtins__": {}}, functions | dict(known))
    return result


def _python(text: str) -> str:
    """Write a product with a sign between its factors, and powers as Python does."""
    written, after_operand = "", False
    for function, number, letter, power, opening, closing, sign, stray in _TOKENS.findall(text):
        assert not stray, f"{stray!r} in {text!r}"
        starts = bool(function or number or letter or opening or sign == "(")
        written += "*" if after_operand and starts else ""
        written += function or number or letter or _SUPERSCRIPTS.get(power, "")
        written += "floor(" if opening else ")" if closing else "*" if sign == "·" else sign
        after_operand = bool(number or letter or power or closing or sign == ")") or (
            after_operand and not (function or opening or sign)
        )
    return written
