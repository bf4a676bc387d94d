"""Import the user's code by `file.py:NAME` or `package.module:NAME`, with short errors."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from attn_surgeon.errors import ErrorType, SurgeonError, nearest


def one_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Redirect standard output to standard error, so that standard output has results only."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def is_file(name: str) -> bool:
    """Whether a name has the form `file.py:NAME`, not `package.module:NAME`."""
    return ".py:" in name


@contextlib.contextmanager
def found(name: str, kind: ErrorType) -> Iterator[Any]:
    """Yield the callable that a name refers to; an exception in the body becomes a short error of class `kind`."""
    place, _, attribute = name.rpartition(":")
    path = Path(place).expanduser()
    if is_file(name) and not path.is_file():
        raise kind("there is no such file", str(path), _files_near(path))
    folder = path.resolve().parent if is_file(name) else Path.cwd()
    with _importable(folder), _short_errors(str(path), folder, kind):
        module = _import_file(path.resolve(), kind) if is_file(name) else _import_module(place, kind)
        yield _callable(module, attribute, name, kind)


def _callable(module: ModuleType, name: str, where: str, kind: ErrorType) -> Any:
    """Return a callable of a module by its name."""
    target = getattr(module, name, None)
    if callable(target):
        return target
    callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    what = f"{name!r} is not callable" if hasattr(module, name) else f"there is no factory {name!r}"
    raise kind(what, where, nearest(name, callables) or f"it has: {', '.join(callables) or 'none'}")


def _import_file(path: Path, kind: ErrorType) -> ModuleType:
    """Import a file under a private module name made from its path and content, so that edits count."""
    digest = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()[:12]
    stem = re.sub(r"\W", "_", path.stem)
    name = f"_attn_surgeon_source_{stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise kind("the file cannot be imported", str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up there
    try:
        with quiet():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, kind: ErrorType) -> ModuleType:
    """Import a module; report one that does not exist apart from an import that fails inside it."""
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise kind(f"there is no module {error.name!r}", name, "is its folder the current one?") from error
        raise


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put a folder first on sys.path."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


@contextlib.contextmanager
def _short_errors(where: str, folder: Path, kind: ErrorType) -> Iterator[None]:
    """Turn exceptions in the user's code into a short error with file and line."""
    try:
        with quiet():
            yield
    except SurgeonError:
        raise
    except (Exception, SystemExit) as error:
        hint = "name it as package.module:FACTORY" if "relative import" in str(error) else ""
        raise kind(f"the factory failed: {one_line(error)}", _line(error, folder) or where, hint) from error


def _line(error: BaseException, folder: Path) -> str:
    """Return `file:line` of the innermost frame in the user's folder, or an empty text."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder) and "site-packages" not in f.filename]
    own = [f for f in own if not Path(f.filename).is_relative_to(Path(__file__).parent)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _files_near(path: Path) -> str:
    """Return a hint with the Python files of similar names in the folder."""
    files = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
    return nearest(path.name, files) or "check the path"
