"""Images that turn out unreadable while a run trains: counted in its folder, and others shown in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.errors import DataError, ImageError

NAME = "bad-images.txt"


@dataclass(frozen=True)
class BadImages:
    """Keep the list of unreadable images in a file, which all processes of a run share; so many are `allowed`."""

    folder: Path
    allowed: int

    def note(self, errors: Iterable[ImageError]) -> None:
        """Add images that are not listed yet; raise DataError where more are listed than are allowed."""
        known, path = listed(self.folder), self.folder / NAME
        found = dict.fromkeys(" ".join(f"{error.where}: {error.hint}".split()) for error in errors)
        lines = [line for line in found if line not in known]
        try:
            with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            hint = "make room, then go on with --resume"
            raise DataError(f"cannot write: {error.strerror}", str(path), hint) from error
        if len(known) + len(lines) > self.allowed:
            what = f"{len(known) + len(lines)} images cannot be read, more than --max-bad allows"
            raise DataError(what, str(path), "repair or remove them, then start a new run")


def listed(folder: Path) -> set[str]:
    """Read the list of a run's unreadable images."""
    path = folder / NAME
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    return {line for line in text.split("\n") if line}


class Substituting(Dataset[tuple[Tensor, int]]):
    """Serve a dataset; in place of an unreadable image, the next readable one of its class.

    Which one that is hangs on nothing but the files, so it is the same for each run, arm and process.
    """

    def __init__(self, dataset: Any, bad: BadImages) -> None:
        self.dataset, self.bad = dataset, bad
        self.labels = dataset.labels

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Give image `index` and its label, or its substitute."""
        return cast("tuple[Tensor, int]", self._first(self.dataset.__getitem__, index))

    def picture(self, index: int) -> tuple[Any, int]:
        """Give image `index` as it is in its file and its label, or its substitute."""
        return cast("tuple[Any, int]", self._first(self.dataset.picture, index))

    def _first(self, get: Callable[[int], Any], index: int) -> Any:
        try:
            return get(index)
        except ImageError as error:
            self.bad.note([error])
        for other in self._others(index):
            try:
                return get(other)
            except ImageError as error:
                self.bad.note([error])
        raise DataError("no image of this class can be read", str(self.bad.folder), "repair them, then start a new run")

    def _others(self, index: int) -> list[int]:
        """List the other images of the same class, those behind `index` first."""
        count, label = len(self.labels), self.labels[index]
        turned = (place % count for place in range(index + 1, index + count))
        return [place for place in turned if self.labels[place] == label]
