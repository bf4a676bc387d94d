"""Evaluation datasets, clean or corrupted: labelled images and images with masks.

Labelled images are corrupted after resizing and before normalisation, as in ImageNet-C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from attn_surgeon.data.corruptions import corrupt
from attn_surgeon.data.images import ImageData, Pictures
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.segmentation_images import Scenes
from attn_surgeon.data.subsets import ImageSubset, balanced, labels_of
from attn_surgeon.errors import DataError, option
from attn_surgeon.networks.preprocessing import Preprocessing, fit

LABELLED_POOL = 32  # number of images that patches of clutter are cut from
SCENE_POOL = 8  # the same for segmentation, whose images may be large
_CHANNELS = (1, 3)  # numbers of channels that image files can have

Corrupt = Callable[[str, int], ImageData]  # maps the kind and strength of a corruption to the corrupted data


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption at one strength; `pool` has the images that clutter is cut from, by their index."""

    kind: str
    strength: int
    seed: int
    pool: dict[int, Image.Image]

    def __call__(self, image: Image.Image, index: int, visible: int | None = None) -> Image.Image:
        """Return image `index` corrupted; clutter is cut from other images only."""
        others = [image for other, image in self.pool.items() if other != index]
        return corrupt(image, self.kind, self.strength, (self.seed, index), others, visible)


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Serve PIL images with labels as normalised tensors (C, H, W), optionally corrupted."""

    def __init__(
        self, pictures: Dataset[Any], preprocessing: Preprocessing, corruption: Corruption | None = None
    ) -> None:
        self.pictures, self.preprocessing, self.corruption = pictures, preprocessing, corruption
        self.transform = preprocessing.transform()
        self.labels = labels_of(pictures)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture, label = self.pictures[index]
        return self.view(picture, index), label

    def view(self, picture: Image.Image, index: int) -> Tensor:
        """Return image `index`, which has been read, as a tensor (C, H, W)."""
        if self.corruption is not None:
            picture = self.corruption(fit(picture, self.preprocessing), index)
        return cast(Tensor, self.transform(picture))

    def name(self, index: int) -> str | int:
        """Return the name of an image, or its index where it has no name."""
        return self.pictures.source.name(index) if isinstance(self.pictures, Pictures) else index


class CorruptedScenes(Scenes):
    """Serve images with masks corrupted at full size; pixels covered by clutter are ignored in the mask."""

    def __init__(self, scenes: Scenes, corruption: Corruption) -> None:
        super().__init__(scenes.pairs, scenes.labelling, scenes.preprocessing, scenes.overlap, keep=False)
        self.corruption = corruption

    def picture(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image `index` as uint8 (C, H, W), corrupted, and its mask."""
        pixels, mask = super().picture(index)
        # The strength of blur is relative to the window, which is the input of the network.
        image = self.corruption(to_pil_image(pixels), index, min(self.preprocessing.size))
        corrupted = cast(Tensor, pil_to_tensor(image))
        if self.corruption.kind == "clutter":
            mask = mask.where((corrupted == pixels).all(0), IGNORED)
        return corrupted, mask


def corrupted_labelled_images(data: ImageData, seed: int) -> Corrupt:
    """Return a function that maps the kind and strength of a corruption to the corrupted data.

    Args:
        data: an ImageSubset of LabelledImages.
        seed: the seed of the random draws, so that all networks are evaluated on the same corrupted images.
    """
    subset = cast(ImageSubset, data.dataset)
    images = cast(LabelledImages, subset.dataset)
    require_others(len(images))
    pool = {
        index: fit(images.pictures[index][0], images.preprocessing) for index in balanced(images.labels, LABELLED_POOL)
    }

    def corrupted(kind: str, strength: int) -> ImageData:
        dataset = LabelledImages(images.pictures, images.preprocessing, Corruption(kind, strength, seed, pool))
        return replace(data, dataset=ImageSubset(dataset, subset.chosen))

    return corrupted


def corrupted_scenes(data: ImageData, seed: int) -> Corrupt:
    """Return a function that maps the kind and strength of a corruption to the corrupted images with masks."""
    scenes = cast(Scenes, data.dataset)
    if scenes.preprocessing.channels not in _CHANNELS:
        what = f"corruptions need images of 1 or 3 channels, got {scenes.preprocessing.channels}"
        raise DataError(what, option("robust"), f"leave {option('robust')} out")
    require_others(len(scenes))
    pool = {index: to_pil_image(scenes.picture(index)[0]) for index in balanced(scenes.labels, SCENE_POOL)}
    return lambda kind, strength: replace(data, dataset=CorruptedScenes(scenes, Corruption(kind, strength, seed, pool)))


def require_others(count: int) -> None:
    """Raise DataError for a single image: clutter is cut from other ones."""
    if count < 2:
        raise DataError("clutter is cut from other images, and there is only one", option("robust"), "add images")
