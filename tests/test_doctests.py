"""The examples in docstrings run, in an empty folder and without optional packages."""

from __future__ import annotations

import doctest
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "attn_surgeon"
FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text() and "integrations" not in path.parts
)
OPTIONAL = ("datasets", "lightning", "peft", "segmentation_models_pytorch", "sklearn", "torchao", "transformers")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_examples(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in OPTIONAL:
        monkeypatch.setitem(sys.modules, name, None)
    done = doctest.testmod(
        import_module(module_name(path)), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert done.attempted > 0
    assert done.failed == 0
