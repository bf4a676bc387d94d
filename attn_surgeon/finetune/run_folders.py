"""Create run folders, and write and read the request of fine-tuning, so that a run can be resumed."""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
from attn_surgeon.data.state import DataState
from attn_surgeon.errors import SurgeonError, TrainingError, option
from attn_surgeon.files import claimed, is_leftover, remove_leftovers
from attn_surgeon.finetune.checkpoint import write_file
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.text_files import read_json
from attn_surgeon.validation import validated

REQUEST = "request.json"


@dataclass(frozen=True)
class FinetuneRequest:
    """The request of fine-tuning, stored in the run folder.

    `start` is the hash of the initial tensors; `files` is the state of the data files, empty if the data has none.
    """

    artefact: str
    data: str
    start: str
    settings: FinetuneSettings
    control: bool
    seeds: int
    files: DataState = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.artefact.endswith(ARTEFACT_SUFFIX):  # another source could be code, which no file may name
            raise ValueError(f"artefact must be a file whose name ends in {ARTEFACT_SUFFIX}, got {self.artefact!r}")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")


def require_unused(path: Path) -> None:
    """Raise TrainingError if a run folder is not empty, or is a file."""
    if not _is_unused(path):
        hint = f"choose another {option('out')}, or resume the run: {option('resume', path)}"
        raise TrainingError("the run folder exists already", str(path), hint)


def _is_unused(path: Path) -> bool:
    """Whether there is no folder, or one with only leftovers of a run that was killed before it began."""
    if not os.path.lexists(path):
        return True
    return path.is_dir() and all(is_leftover(file) for file in path.iterdir())


def new_run(path: str | None, request: FinetuneRequest) -> Path:
    """Create a run folder with its request; without a path, under runs/ with the date and the artefact's name."""
    name = f"{time.strftime('%Y-%m-%d')}-{Path(request.artefact).stem}"
    folder = Path(path) if path is not None else _unused(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with claimed(folder):
            require_unused(folder)
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
            write_request(folder, request)
    except OSError as error:
        what = f"cannot make the run folder: {error.strerror}"
        raise TrainingError(what, str(folder), f"choose another {option('out')}") from None
    return folder


def _unused(name: str) -> Path:
    folders = (Path("runs") / (f"{name}-{number}" if number > 1 else name) for number in itertools.count(1))
    return next(folder for folder in folders if _is_unused(folder))


def write_request(folder: Path, request: FinetuneRequest) -> None:
    """Write the request of a run."""
    text = json.dumps(asdict(request), indent=2) + "\n"
    write_file(folder / REQUEST, lambda path: Path(path).write_text(text, encoding="utf-8"))


def read_request(folder: Path) -> FinetuneRequest:
    """Read the request of a run; raise TrainingError if the folder is not a run folder."""
    path = folder / REQUEST
    if not os.path.lexists(path):
        raise TrainingError("not a run folder", str(folder), f"it has no {REQUEST}; start the run again")
    try:
        return validated(FinetuneRequest, read_json(path, TrainingError), TrainingError)
    except SurgeonError as error:
        raise TrainingError(f"invalid request: {error.what}", str(path), error.hint or "start a new run") from None
