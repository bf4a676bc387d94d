"""Errors name options and functions as their caller writes them."""

from __future__ import annotations

import pickle

import pytest

from attn_surgeon.cli.output import print_error
from attn_surgeon.errors import SelectorError, SurgeonError, for_command_line, function, option

ERROR = SelectorError(
    "no layout is called 'tokes'",
    option("layout"),
    f"try {option('layout', 'tokens')}, {option('graft_lr_mult', 2.0)} or {function('find_sites(net)', 'inspect NET')}",
)


def test_python_callers_read_python_names() -> None:
    hint = "try layout=tokens, graft_lr_mult=2.0 or attn_surgeon.find_sites(net)"
    assert str(ERROR) == f"no layout is called 'tokes'; layout; {hint}"


def test_the_command_line_reads_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ERROR.what, ERROR.where, ERROR.hint, as_json=False)
    hint = "try --layout tokens, --graft-lr-mult 2.0 or attn-surgeon inspect NET"
    assert capsys.readouterr().err.strip() == f"error: no layout is called 'tokes'; --layout; {hint}"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (option("layout"), "layout"),
        (option("amp", "fp16"), "amp"),
        ("--layout", None),
        ("", None),
        (function("insert(net)", "insert NET"), None),
        (f"see {option('layout')}", None),
    ],
)
def test_an_error_has_the_name_of_its_option(where: str, expected: str | None) -> None:
    assert SurgeonError("wrong", where).option == expected


def test_flags_take_no_value() -> None:
    assert for_command_line(option("allow_partial", value=True)) == "--allow-partial"
    assert str(SurgeonError("x", "", option("allow_partial", value=True))) == "x; allow_partial=True"


def test_errors_are_the_same_after_pickling() -> None:
    again = pickle.loads(pickle.dumps(ERROR))
    assert (type(again), str(again), again.option) == (SelectorError, str(ERROR), "layout")


def test_errors_hold_no_control_characters() -> None:
    assert str(SurgeonError("no \x1b[31msite\n\ud800", "ü\x00")) == "no \\x1b[31msite \\ud800; ü\\x00"
