"""Serve the same images to several networks with different preprocessing, reading each image once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch.utils.data import Dataset

from attn_surgeon.data.corrupted import LabelledImages
from attn_surgeon.data.subsets import ImageSubset
from attn_surgeon.networks.preprocessing import Preprocessing


class Views(Dataset[tuple[Any, ...]]):
    """Serve the items of several datasets as tuples.

    Where all are the same subset of labelled images, an image is read once, and corrupted and transformed once for each
    preprocessing.
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
        image_index = subsets[0].chosen[index]
        datasets = [cast(LabelledImages, subset.dataset) for subset in subsets]
        picture, _ = datasets[0].pictures[image_index]
        views: dict[Preprocessing, Any] = {}
        for dataset in datasets:
            if dataset.preprocessing not in views:
                views[dataset.preprocessing] = dataset.view(picture, image_index)
        return tuple((views[dataset.preprocessing], dataset.labels[image_index]) for dataset in datasets)


def _same_images(datasets: Sequence[Dataset[Any]]) -> bool:
    """Return whether datasets are the same subset of labelled images."""
    labelled = all(isinstance(item, ImageSubset) and isinstance(item.dataset, LabelledImages) for item in datasets)
    return labelled and len({tuple(cast(ImageSubset, item).chosen) for item in datasets}) == 1
