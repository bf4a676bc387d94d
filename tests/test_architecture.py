"""Imports between rooms point one way, a public name is defined once, and the library does not speak command line."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "attn_surgeon"

# from the lowest floor to the highest; a room imports from its own floor and from those below
FLOORS = (
    (
        "errors",
        "files",
        "memory",
        "progress",
        "optional_dependencies",
        "text_files",
        "settings",
        "tables",
        "user_code",
        "validation",
    ),
    ("networks", "blocks", "surgery"),
    ("operations",),
    ("artefact",),
    ("data",),
    ("tasks",),
    ("evaluate", "measure"),
    ("control", "draw", "export", "profiling", "finetune", "integrations", "scouting"),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


@cache
def modules() -> dict[str, ast.Module]:
    """Parse every file of the package, by its path."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def room(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def imported(path: str, tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of every import from the package, in functions and for type checkers too."""
    package = ["attn_surgeon", *path.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            names = [".".join([*start, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.partition(".")[0] == "attn_surgeon")


def room_of_import(name: str) -> str:
    first = name.partition(".")[0]
    return first if first in LEVEL else "__init__"


def arrows() -> dict[tuple[str, str], list[str]]:
    """List the files behind each import from one room to another."""
    found = defaultdict(list)
    for path, tree in modules().items():
        names = set(imported(path, tree)) - {"__version__"}
        for target in set(map(room_of_import, names)) - {room(path)}:
            found[room(path), target].append(path)
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {room(path) for path in modules()}
    assert rooms == set(LEVEL)


def test_no_room_imports_from_a_higher_one() -> None:
    upward = [
        f"{source} -> {target}: {', '.join(sorted(files))}"
        for (source, target), files in arrows().items()
        if LEVEL[source] < LEVEL[target]
    ]
    assert not upward, "\n".join(sorted(upward))


def test_no_rooms_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in arrows():
        graph[source].add(target)
    fail_on_a_circle(graph)


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {path.removesuffix(".py").replace("/", "."): path for path in modules()}
    graph = {
        path: {
            files[file] for name in imported(path, tree) for file in (name, name.rpartition(".")[0]) if file in files
        }
        for path, tree in modules().items()
    }
    assert sum(map(len, graph.values())) > 1000
    fail_on_a_circle(graph)


def fail_on_a_circle(graph: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def definitions() -> dict[str, set[str]]:
    """List the files that define each public name at their top level."""
    found = defaultdict(set)
    for path, tree in modules().items():
        for node in tree.body:
            for name in defined(node):
                if not name.startswith("_"):
                    found[name].add(path)
    return found


def defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


# files that offer the same names by design
INTERFACES = {
    r"blocks/(channel|spatial|both|self_attention|fusion)/\w+\.py": "each block's file has a CARD",
    r"networks/sources/\w+\.py": "each source of networks is registered as a SOURCE",
    r"cli/.*\.py": "a verb's function is named after the verb, and `register` adds it",
}
# names that two files define by design
PAIRS = {
    "main": "the entry points of the package, of the command line and of worker processes",
    "T": "the usual type variable",
}


def same_interface(paths: set[str]) -> bool:
    return any(all(re.fullmatch(pattern, path) for path in paths) for pattern in INTERFACES)


def test_a_public_name_is_defined_in_one_file() -> None:
    doubled = []
    for name, paths in definitions().items():
        library = {path for path in paths if not path.startswith("cli/")}  # a verb is named as what it calls
        if len(library) > 1 and name not in PAIRS and not same_interface(library):
            doubled.append(f"{name}: {', '.join(sorted(library))}")
    assert not doubled, "\n".join(sorted(doubled))


def test_no_deliberate_pair_is_out_of_date() -> None:
    found = definitions()
    assert [name for name in PAIRS if len(found[name]) < 2] == []


COMMAND_LINE = re.compile(r"(?<![\w-])--[a-z]|attn-surgeon [a-z]")


def messages(tree: ast.Module) -> Iterator[str]:
    """Yield the texts in raise statements, in calls of exceptions' constructors and in warnings.

    Those that are worded for both callers, by `errors.either`, are left out.
    """
    worded = {id(text) for node in ast.walk(tree) if called_name(node) == "either" for text in ast.walk(node)}
    for node in ast.walk(tree):
        called = called_name(node)
        if isinstance(node, ast.Raise) or called == "warn" or called.endswith(("Error", "Warning")):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and id(inner) not in worded:
                    yield inner.value


def called_name(node: ast.AST) -> str:
    """Return the name of the function that is called, without its module; empty where none is."""
    name = node.func if isinstance(node, ast.Call) else None
    return name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else ""


def test_errors_below_the_command_line_do_not_speak_of_it() -> None:
    spoken = {
        f"{path}: {text}"
        for path, tree in modules().items()
        if room(path) not in ("cli", "__main__")
        for text in messages(tree)
        if COMMAND_LINE.search(text)
    }
    assert not spoken, "\n".join(sorted(spoken))
