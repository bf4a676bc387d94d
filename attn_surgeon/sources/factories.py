"""Networks of the user's own: a factory in a file or in a module."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from attn_surgeon.errors import SourceError, SurgeonError, nearest
from attn_surgeon.sources.calls import check_arguments, one_line, quiet
from attn_surgeon.sources.spec import Scalar


def from_file(name: str, args: Mapping[str, Scalar]) -> nn.Module:
    """Build a network with the factory that `FILE.py:FACTORY` names."""
    stem, _, factory = name.rpartition(".py:")
    path = Path(f"{stem}.py").expanduser()
    if not path.is_file():
        raise SourceError("there is no such file", str(path), _files_near(path))
    with _importable(path.resolve().parent), _user_errors(str(path), path.resolve().parent):
        return _build(_import_file(path.resolve()), factory, args, name)


def from_module(name: str, args: Mapping[str, Scalar]) -> nn.Module:
    """Build a network with the factory that `package.module:FACTORY` names."""
    module, _, factory = name.partition(":")
    with _importable(Path.cwd()), _user_errors(module, Path.cwd()):
        return _build(_import_module(module), factory, args, name)


def _build(module: ModuleType, name: str, args: Mapping[str, Scalar], where: str) -> nn.Module:
    """Call a module's factory and check what it returns."""
    factory = _factory(module, name, where)
    if isinstance(factory, nn.Module):
        check_arguments(lambda: None, args, where)
        return copy.deepcopy(factory)  # the module stays imported; its own network must stay as it is
    check_arguments(factory, args, where)
    model = factory(**args)
    if isinstance(model, nn.Module):
        return model
    raise SourceError(f"the factory returned {type(model).__name__}, not a network", where)


def _factory(module: ModuleType, name: str, where: str) -> Any:
    """Return the callable of a module that a name means."""
    target = getattr(module, name, None)
    if callable(target):
        return target
    own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    what = f"{name!r} cannot be called" if hasattr(module, name) else f"there is no factory {name!r}"
    raise SourceError(what, where, nearest(name, own) or f"it has: {', '.join(own) or 'none'}")


def _import_file(path: Path) -> ModuleType:
    """Import a file under a private name of its own, once for each content."""
    digest = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()[:12]
    stem = re.sub(r"\W", "_", path.stem)
    name = f"_attn_surgeon_source_{stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SourceError("the file cannot be imported", str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before running it: dataclasses and pickle look their module up
    try:
        with quiet():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    """Import a module, telling one that is missing from one that fails."""
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SourceError(f"there is no module {error.name!r}", name, "is its folder the current one?") from error
        raise


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put a folder first among those that modules are imported from."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


@contextlib.contextmanager
def _user_errors(where: str, folder: Path) -> Iterator[None]:
    """Turn exceptions of the user's code into a SourceError with their file and line."""
    try:
        with quiet():
            yield
    except SurgeonError:
        raise
    except (Exception, SystemExit) as error:
        hint = "name it as package.module:FACTORY" if "relative import" in str(error) else ""
        raise SourceError(f"the factory failed: {one_line(error)}", _line(error, folder) or where, hint) from error


def _line(error: BaseException, folder: Path) -> str:
    """Return `file:line` of the deepest frame in the user's folder."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder) and "site-packages" not in f.filename]
    own = [f for f in own if not Path(f.filename).is_relative_to(Path(__file__).parent)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _files_near(path: Path) -> str:
    """Suggest Python files of the folder whose names are near."""
    files = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
    return nearest(path.name, files) or "check the path"
