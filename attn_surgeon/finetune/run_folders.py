"""Run folders: what was asked for, kept beside what came of it, so that a run can be resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact.tensors import hash_tensors, split_tensors
from attn_surgeon.finetune.checkpoint import write_file
from attn_surgeon.finetune.settings import Settings, TrainingError

REQUEST = "request.json"


@dataclass(frozen=True)
class Request:
    """Hold what a fine-tune was asked for; `start` is the hash of the tensors it starts from."""

    artefact: str
    data: str
    start: str
    settings: Settings
    control: bool
    seeds: int


def new_folder(given: str | None, name: str) -> Path:
    """Name the run's folder, which must not hold anything yet, and make it."""
    path = Path(given) if given is not None else _free(f"{time.strftime('%Y-%m-%d')}-{name}")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            hint = f"name another with --out, or go on with --resume {path}"
            raise TrainingError("the run folder exists already", str(path), hint)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"cannot make the run folder: {error.strerror}", str(path), "choose another --out"
        ) from None
    return path


def _free(name: str) -> Path:
    number, path = 1, Path("runs") / name
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def fingerprint(model: nn.Module) -> str:
    """Hash all tensors of a network."""
    base, grafts = split_tensors(model)
    return hash_tensors(base | grafts)


def write_request(folder: Path, request: Request) -> None:
    """Keep what was asked for."""
    text = json.dumps(asdict(request), indent=2) + "\n"
    write_file(folder / REQUEST, lambda path: Path(path).write_text(text, encoding="utf-8"))


def read_request(folder: Path) -> Request:
    """Read what a run was asked for; raise TrainingError where the folder is none of a run."""
    path = folder / REQUEST
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Request(**{**values, "settings": Settings(**values["settings"])})
    except FileNotFoundError:
        raise TrainingError("this is no run folder", str(folder), f"it would hold {REQUEST}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        line = " ".join(str(error).split())
        raise TrainingError(f"the run's request cannot be read: {line}", str(path), "start a new run") from None
