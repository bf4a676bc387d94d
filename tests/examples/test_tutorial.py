"""The tutorial notebook runs from its first cell to its last, and gives the results that are stored in it."""

from __future__ import annotations

import ast
import json
import pprint
from typing import Any

import pytest

from .example_files import REPO


def run_cell(source: str, namespace: dict[str, Any]) -> object:
    """Run a cell; return the value of its last expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    return (
        eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if isinstance(last, ast.Expr) else None
    )


def stored(cell: dict[str, Any]) -> str | None:
    """Return the text of a cell's result, as it is stored."""
    results = [output for output in cell["outputs"] if output["output_type"] == "execute_result"]
    return "".join(results[0]["data"]["text/plain"]) if results else None


@pytest.mark.slow
def test_the_outputs_of_the_notebook_equal_the_stored_ones() -> None:
    notebook = json.loads((REPO / "examples" / "tutorial.ipynb").read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    compared = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            value, expected = run_cell("".join(cell["source"]), namespace), stored(cell)
            assert (value is None) == (expected is None)
            if expected is not None and not expected.startswith("'largest difference"):  # rounding, by machine
                assert expected in (repr(value), pprint.pformat(value, width=79)), cell["source"]
                compared += 1
    assert compared == 7
    assert namespace["before"] == pytest.approx(24.1, abs=1)
    assert namespace["operated"] > namespace["before"] + 10
