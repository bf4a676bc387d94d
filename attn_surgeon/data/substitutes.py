"""Images that turn out unreadable while a run trains: listed in its folder, and others served in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.errors import DataError, ImageError, option

BAD_IMAGES = "bad-images.txt"


@dataclass(frozen=True)
class BadImages:
    """The list of unreadable images, in a file that all processes of a run share; at most `allowed` of them."""

    folder: Path
    allowed: int

    def add(self, errors: Iterable[ImageError]) -> None:
        """Add images that are not listed yet; raise DataError where more are listed than are allowed."""
        known, path = listed(self.folder), self.folder / BAD_IMAGES
        found = dict.fromkeys(" ".join(f"{error.where}: {error.hint}".split()) for error in errors)
        lines = [line for line in found if line not in known]
        try:
            with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            hint = f"make room, then {option('resume')} the run"
            raise DataError(f"cannot write: {error.strerror}", str(path), hint) from error
        if len(known) + len(lines) > self.allowed:
            what = f"{len(known) + len(lines)} images are unreadable, more than {option('max_bad')} allows"
            raise DataError(what, str(path), "repair or remove them, then start a new run")


def listed(folder: Path) -> set[str]:
    """Read the list of a run's unreadable images."""
    path = folder / BAD_IMAGES
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    return {line for line in text.split("\n") if line}


class Substituting(Dataset[tuple[Tensor, int]]):
    """Serve a dataset; in place of an unreadable image, the next readable one of its class.

    Which one that is depends on nothing but the files, so it is the same for each run, arm and process.
    """

    def __init__(self, dataset: Any, bad: BadImages) -> None:
        self.dataset, self.bad = dataset, bad
        self.labels = dataset.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return cast("tuple[Tensor, int]", self._readable(self.dataset.__getitem__, index))

    def picture(self, index: int) -> tuple[Any, int]:
        """Return image `index` as stored and its label, or its substitute."""
        return cast("tuple[Any, int]", self._readable(self.dataset.picture, index))

    def _readable(self, get: Callable[[int], Any], index: int) -> Any:
        for candidate in self._candidates(index):
            try:
                return get(candidate)
            except ImageError as error:
                self.bad.add([error])
        what = "no image of this class is readable"
        raise DataError(what, str(self.bad.folder), "repair them, then start a new run")

    def _candidates(self, index: int) -> Iterator[int]:
        """Yield an image, then the others of its class, those after it first."""
        count, label = len(self.labels), self.labels[index]
        for place in range(index, index + count):
            if self.labels[place % count] == label:
                yield place % count
