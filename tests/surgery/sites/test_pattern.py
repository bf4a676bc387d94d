"""Matching of patterns: the same as that of regular expressions, and in linear time."""

from __future__ import annotations

import random
import re
import time
import warnings

import pytest

from attn_surgeon.errors import SelectorError
from attn_surgeon.surgery.sites.pattern import LONGEST, compile_pattern

GLOB = re.compile(r"\*\*|\*|\?|\[[^\]]*\]|\{[^}]*\}")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
TOKENS = ("a", "b", "1", "12", "0", ".", ":", "*", "**", "?", "[ab]", "[!a]", "[^1]", "[0-2]", "[a-]", "[]", "{a,b*}")
MORE = (
    "[b-a]",
    "{0..12}",
    "{1..1}",
    "{9..12}",
    "{2..1}",
    "{007..11}",
    "{a,,1?}",
    "{**,**}",
    "{",
    "}",
    "[",
    ",",
    "{a..b}",
    "-",
)
NEVER = "(?!)"


def as_regex(selector: str) -> str:
    """Return a selector as a regular expression, which may backtrack and whose ranges are written out."""
    parts, end = [], 0
    for glob in GLOB.finditer(selector):
        parts += [re.escape(selector[end : glob.start()]), glob_as_regex(glob.group())]
        end = glob.end()
    return "".join([*parts, re.escape(selector[end:])])


def glob_as_regex(glob: str) -> str:
    if glob.startswith("["):
        inside = glob[1:-1].replace("\\", "\\\\")
        return f"[{'^' + inside[1:] if inside.startswith('!') else inside}]" if inside else re.escape(glob)
    if numbers := RANGE.fullmatch(glob):
        return f"(?:{'|'.join(map(str, range(int(numbers[1]), int(numbers[2]) + 1))) or NEVER})"
    if glob.startswith("{"):
        return "(?:" + "|".join(as_regex(choice) for choice in glob[1:-1].split(",")) + ")"
    return {"**": ".*", "*": "[^.:]*", "?": "[^.:]"}[glob]


@pytest.mark.filterwarnings("ignore:Possible (nested set|set difference):FutureWarning")
def test_random_patterns_match_as_regular_expressions_do() -> None:
    dice, matched, invalid = random.Random(0), 0, 0
    for _ in range(1500):
        selector = "".join(dice.choices(TOKENS + MORE, k=dice.randint(1, 5)))
        try:
            regex = re.compile(as_regex(selector))
        except re.error:
            invalid += 1
            with pytest.raises(SelectorError):
                compile_pattern(selector)
            continue
        around, pattern = re.compile(f"(?:{regex.pattern})(?:[.:].*)?"), compile_pattern(selector)
        for _ in range(12):
            name = "".join(dice.choices("aab.:0112{},[]-", k=dice.randint(0, 6)))
            assert pattern.matches(name) == bool(regex.fullmatch(name)), (selector, name)
            assert pattern.is_around(name) == bool(around.fullmatch(name)), (selector, name)
            matched += pattern.matches(name)
    assert matched > 300
    assert 0 < invalid < 500


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("{**,**}" * 1000 + "x", "layer1.0.downsample"),
        ("**e" * 2000 + "q", "encoder.layers.encoder_layer_0.self_attention.out_proj" * 20),
        ("{*,?,**}" * 1000 + "x", "a" * 3000),
        ("{0..999999999999}" * 500 + "x", "1234567890" * 30),
        (f"{{{'9' * 4000}..1}}", "9" * 4000),
        (f"{{1..{'9' * 9000}}}", "9" * 9001),
        ("[" * LONGEST, "x"),
        ("{" * LONGEST, "x"),
        ("{" + "," * (LONGEST - 2) + "}", "x"),
        (f"[{'a-b' * 3000}]x", "a" * 100),
    ],
)
def test_no_pattern_takes_long(selector: str, name: str) -> None:
    since = time.process_time()
    assert not compile_pattern(selector).matches(name)
    assert time.process_time() - since < 2


def test_numbers_as_large_as_one_likes() -> None:
    pattern = compile_pattern("layer{5..99999999999999999999}")
    assert [n for n in ("4", "5", "05", "50", "9" * 20, "1" + "0" * 20, "") if pattern.matches(f"layer{n}")] == [
        "5",
        "50",
        "9" * 20,
    ]


def test_leading_zeros_of_a_range_do_not_count() -> None:
    assert compile_pattern("{000..012}").matches("7")
    assert not compile_pattern("{000..012}").matches("07")


@pytest.mark.parametrize("selector", ["[b-a]", "x[!]", "[^]", "a" * (LONGEST + 1)])
def test_invalid_patterns_are_refused_in_a_short_line(selector: str) -> None:
    with pytest.raises(SelectorError) as caught:
        compile_pattern(selector)
    assert len(str(caught.value)) < 300


def test_brackets_in_brackets_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_pattern("[[a]").matches("[")
        assert compile_pattern("[a&&b||~~]").matches("&")
