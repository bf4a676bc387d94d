"""The same images as several networks take them, each read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch.utils.data import Dataset

from attn_surgeon.data.corrupted import LabelledImages
from attn_surgeon.data.subsets import ImageSubset
from attn_surgeon.networks.preprocessing import Preprocessing


class Views(Dataset[tuple[Any, ...]]):
    """Serve the items of several datasets together.

    Where all of them are subsets of labelled images, the same ones, an image is read once, and corrupted and
    transformed once for each preprocessing.
    """

    def __init__(self, datasets: Sequence[Dataset[Any]]) -> None:
        self.datasets = tuple(datasets)
        self.shared = len(self.datasets) > 1 and _same_images(self.datasets)

    def __len__(self) -> int:
        return len(cast(Any, self.datasets[0]))

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if not self.shared:
            return tuple(dataset[index] for dataset in self.datasets)
        subsets = cast(tuple[ImageSubset, ...], self.datasets)
        place = subsets[0].chosen[index]
        images = [cast(LabelledImages, subset.dataset) for subset in subsets]
        picture, _ = images[0].pictures[place]
        seen: dict[Preprocessing, Any] = {}
        for own in images:
            if own.preprocessing not in seen:
                seen[own.preprocessing] = own.view(picture, place)
        return tuple((seen[own.preprocessing], own.labels[place]) for own in images)


def _same_images(datasets: Sequence[Dataset[Any]]) -> bool:
    """Whether datasets are subsets of labelled images with the same choice of them."""
    labelled = all(isinstance(own, ImageSubset) and isinstance(own.dataset, LabelledImages) for own in datasets)
    return labelled and len({tuple(cast(ImageSubset, own).chosen) for own in datasets}) == 1
