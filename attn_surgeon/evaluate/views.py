"""Images as several networks want them: read once, corrupted alike, brought to each network's own preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.data import HERE, ImageData, Place, as_known, open_pictures
from attn_surgeon.data.checks import without_unreadable
from attn_surgeon.data.corruptions import corrupt
from attn_surgeon.data.images import Pictures
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.accuracy import balanced, labels_of
from attn_surgeon.networks.preprocessing import Preprocessing, fit
from attn_surgeon.surgery.running import run

POOL = 32


@dataclass(frozen=True)
class Corruption:
    """Hold what is done to images before they are normalised; at strength 0, nothing."""

    kind: str
    strength: int
    seed: int


class Views(Dataset[tuple[tuple[Tensor, ...], int]]):
    """Serve each picture as one image (C, H, W) for every preprocessing, and its label.

    `pools` holds, for every preprocessing, the pictures that clutter is cut from, by their index.
    """

    def __init__(
        self,
        pictures: Dataset[Any],
        wanted: Sequence[Preprocessing],
        corruption: Corruption | None = None,
        pools: Sequence[dict[int, Image.Image]] = (),
    ) -> None:
        self.pictures, self.wanted, self.corruption, self.pools = pictures, tuple(wanted), corruption, pools
        self.transforms = [preprocessing.transform() for preprocessing in wanted]
        self.labels = labels_of(pictures)

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], int]:
        """Give the views of picture `index`, and its label."""
        picture, label = self.pictures[index]
        return tuple(self._view(number, picture, index) for number in range(len(self.wanted))), label

    def _view(self, number: int, picture: Image.Image, index: int) -> Tensor:
        """Bring a picture to size, corrupt it there, and normalise it, as ImageNet-C does."""
        made = self.corruption
        if made is not None:
            fitted = fit(picture, self.wanted[number])
            others = [other for place, other in self.pools[number].items() if place != index]
            picture = corrupt(fitted, made.kind, made.strength, (made.seed, index), others)
        return cast(Tensor, self.transforms[number](picture))


def open_views(
    spec: str,
    split: str,
    wanted: Sequence[Preprocessing],
    place: Place = HERE,
    class_names: tuple[str, ...] | None = None,
    max_bad: float = 0.0,
) -> tuple[ImageData, tuple[str, ...]]:
    """Open a split for networks with these preprocessings, one view where they all agree; and what to say of it."""
    opened = as_known(open_pictures(spec, split, as_it_is, place), class_names)
    opened, notes = without_unreadable(opened, max_bad)
    distinct = wanted[:1] if len(set(wanted)) == 1 else wanted
    return ImageData(Views(opened.dataset, distinct), opened.class_names), notes


def unlike(loaded: LoadedNetwork, class_names: Sequence[str]) -> tuple[str, ...]:
    """Say where a network has another number of outputs than the data has classes."""
    output = run(loaded.model, loaded.example)
    width = output.shape[-1] if isinstance(output, Tensor) else len(class_names)
    if width == len(class_names):
        return ()
    what = f"the network has {width} outputs, the data {len(class_names)} classes"
    return (f"{what}: they count as its first {len(class_names)}",) if width > len(class_names) else (what,)


def as_it_is(picture: Image.Image) -> Image.Image:
    """Leave a picture alone."""
    return picture


def pools_of(views: Views) -> list[dict[int, Image.Image]]:
    """Read the pictures that clutter is cut from, evenly over classes, as large as each preprocessing has them."""
    if len(views) < 2:
        raise DataError("clutter is cut from other images, and there is one only", "--robust", "add images")
    pictures = {index: views.pictures[index][0] for index in balanced(views.labels, POOL)}
    return [{index: fit(picture, size) for index, picture in pictures.items()} for size in views.wanted]


def image_names(data: ImageData, limit: int | None) -> list[str | int]:
    """Name the images of an evaluation in order: by their files, or by their index where there are none."""
    views = cast(Views, data.dataset)
    chosen = range(len(views)) if limit is None else balanced(views.labels, limit)
    pictures = views.pictures
    return [pictures.source.name(index) if isinstance(pictures, Pictures) else index for index in chosen]
