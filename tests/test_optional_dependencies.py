from __future__ import annotations

import sys

import pytest

from attn_surgeon.cli.output import print_error
from attn_surgeon.errors import SurgeonError
from attn_surgeon.optional_dependencies import require_extra


def test_installed_modules_are_not_imported() -> None:
    require_extra("draw", "json", "antigravity")
    assert "antigravity" not in sys.modules


def test_an_error_names_what_is_missing_and_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SurgeonError) as raised:
        require_extra("draw", "json", "first_missing", "second_missing", what="the chart")
    line = "the chart needs first_missing and second_missing; pip install 'attn-surgeon[draw]'"
    assert str(raised.value) == line
    print_error(raised.value.what, raised.value.where, raised.value.hint, as_json=False)
    assert capsys.readouterr().err == f"error: {line}\n"
