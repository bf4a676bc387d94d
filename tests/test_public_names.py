"""The public names: one list, every name of which can be imported."""

from __future__ import annotations

import doctest

import pytest

import attn_surgeon


def test_every_public_name_is_importable() -> None:
    found = {name: getattr(attn_surgeon, name) for name in dir(attn_surgeon) if name != "__version__"}
    assert {"insert", "remove", "find_sites", "certify", "check", "list_grafts"} <= found.keys()
    assert all(item.__name__ == name for name, item in found.items())


@pytest.mark.parametrize(
    "name", ["certify", "check", "find_sites", "insert", "list_grafts", "plan", "register_block", "remove"]
)
def test_the_example_of_a_public_function_runs(name: str) -> None:
    function = getattr(attn_surgeon, name)
    (examples,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert examples.examples
    output: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(examples, out=output.append).failed == 0, "".join(output)
    for part in ("Returns", "Raises") if name not in ("register_block", "list_grafts") else ("Example",):
        assert f"{part}:\n" in (function.__doc__ or "")
