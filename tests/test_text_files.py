"""Files of others are read as plain data of a limited extent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from attn_surgeon.errors import RecipeError
from attn_surgeon.text_files import read_json, read_text, read_yaml

_TENFOLD = (f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(_TENFOLD)
BAD_YAML = {
    "aliases of aliases": (BOMB, "more than 50,000 values"),
    "itself": ("a: &a [*a]", "stands for nothing before it, or for itself"),
    "nested": ("- " * 100, "nested more than 50 deep"),
    "brackets": ("[" * 100_000, "nesting"),
    "twice": ("{a: 1, b: 2, a: 3}", "'a' stands there twice"),
    "twice inside": ("- {a: {b: 1, b: 1}}", "'b' stands there twice"),
    "merge": ("a: &a {b: 1}\nc: {<<: *a}", "merge keys"),
    "list as a name": ("? [1]\n: 2", "unhashable"),
    "long number": ("a: " + "9" * 5000, "digits"),
    "base 60": ("a: " + "1:" * 50_000 + "1", "longer than 20,000 characters"),
    "many": ("- 1\n" * 60_000, "more than 50,000 values"),
    "large": ("#" * 500_000, "larger than 400,000 bytes"),
    "tag": ("!!python/object/apply:os.mkdir [ran]", "constructor"),
    "date": ("2024-99-99", "month"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_yaml_without_end_is_refused_at_once(case: str, tmp_path: Path) -> None:
    text, what = BAD_YAML[case]
    path = tmp_path / "x.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(RecipeError, match=what) as refused:
        read_yaml(path, RecipeError)
    assert time.process_time() - start < 5
    assert len(str(refused.value)) <= 300
    assert str(refused.value).isprintable()


def test_aliases_that_stand_for_little_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: &a [1, {b: x}]\r\nc: [*a, *a]\r\n")
    assert read_yaml(tmp_path / "x.yaml", RecipeError) == {"a": [1, {"b": "x"}], "c": [[1, {"b": "x"}]] * 2}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1, "a": 2}', "'a' stands there twice"),
        (b"[" * 100_000, "recursion"),
        (b"9" * 5000, "digits"),
        (b'{"a": "\xff"}', "utf-8"),
        (b"[1," * 2_000_000, "larger than 4,000,000 bytes"),
    ],
)
def test_json_that_is_none(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RecipeError, match=what):
        read_json(tmp_path / "x.json", RecipeError)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "none"):
        with pytest.raises(RecipeError, match="cannot be read"):
            read_text(tmp_path / name, RecipeError)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_text(Path("/dev/zero"), RecipeError)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_text(tmp_path / ("x" * 5000), RecipeError)
