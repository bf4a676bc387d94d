"""List the images that are found unreadable during training in the run folder, and serve substitutes for them."""

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
    """The list of unreadable images in a file that all processes of a run share, with the number that is allowed."""

    folder: Path
    allowed: int

    def add(self, errors: Iterable[ImageError]) -> None:
        """Add images that are not listed yet; raise DataError where more are listed than are allowed."""
        known, path = listed(self.folder), self.folder / BAD_IMAGES
        all_lines = dict.fromkeys(" ".join(f"{error.where}: {error.hint}".split()) for error in errors)
        lines = [line for line in all_lines if line not in known]
        try:
            with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            hint = f"free disk space, then {option('resume')} the run"
            raise DataError(f"cannot write: {error.strerror}", str(path), hint) from error
        if len(known) + len(lines) > self.allowed:
            what = f"{len(known) + len(lines)} images are unreadable, more than {option('max_bad')} allows"
            raise DataError(what, str(path), "repair or remove them, then start a new run")


def listed(folder: Path) -> set[str]:
    """Return the lines of the list of unreadable images in a run folder."""
    path = folder / BAD_IMAGES
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    return {line for line in text.split("\n") if line}


class Substituting(Dataset[tuple[Tensor, int]]):
    """Serve a dataset, with the next readable image of the same class in place of an unreadable one.

    The substitute depends only on the files, so it is the same in each run and process, and for the control.
    """

    def __init__(self, dataset: Any, bad: BadImages) -> None:
        self.dataset, self.bad = dataset, bad
        self.labels = dataset.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return cast("tuple[Tensor, int]", self._readable(self.dataset.__getitem__, index))

    def picture(self, index: int) -> tuple[Any, int]:
        """Return image `index` or its substitute, without the transform, and its label."""
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
        """Yield an index, then those of the other images of its class in cyclic order."""
        count, label = len(self.labels), self.labels[index]
        for candidate in range(index, index + count):
            if self.labels[candidate % count] == label:
                yield candidate % count
