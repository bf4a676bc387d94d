"""The preprocessing of a pretrained network: image size, normalisation and the transform that applies them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from attn_surgeon.errors import DataError
from attn_surgeon.validation import validated

if TYPE_CHECKING:
    from PIL import Image
    from torchvision.transforms import v2

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_MODES = {1: "L", 3: "RGB"}
_WHERE = "preprocessing"
_LARGEST_SIDE, _MOST_CHANNELS = 65_536, 4_096  # more is an error in a file, whose example would fill the memory
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a network's images.

    Args:
        mean: the mean of each channel, of pixels from 0 to 1.
        std: the standard deviation of each channel.
        size: the input size (H, W).
        channels: the number of channels.
        interpolation: the mode of the resizing.
        crop_pct: the fraction of the resized image that the centre crop keeps.
        assumed: whether the normalisation is not known and ImageNet's is used.
        longer_side: for detection, the length that the longer side of an image is resized to.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    channels: int = 3
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    assumed: bool = False
    longer_side: int | None = None

    def __post_init__(self) -> None:
        """Raise DataError for invalid values."""
        for problem in _problems(self):
            raise DataError(problem, _WHERE, "see the model's own data configuration")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; `assumed` and `longer_side` only if they are set."""
        known = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return {name: value for name, value in known.items() if value or name not in ("assumed", "longer_side")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Return the settings in plain JSON values; raise DataError if they are invalid."""
        return validated(cls, values, DataError, _WHERE)

    def transform(self) -> v2.Compose:
        """Return the transform from a PIL image to a normalised float tensor (C, H, W)."""
        import torch
        from torchvision.transforms import v2

        if self.channels not in _MODES:
            raise DataError(
                f"image files have 1 or 3 channels, the network takes {self.channels}",
                _WHERE,
                "pass a dataset of your own",
            )
        return v2.Compose(
            [
                v2.Lambda(partial(fit, preprocessing=self)),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(self.mean), list(self.std)),
                v2.ToPureTensor(),
            ]
        )


@dataclass(frozen=True)
class PreprocessingOverrides:
    """Preprocessing values set by the user; None keeps the value of the network's source."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return a preprocessing with its values replaced by those that are set."""
        changes: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        if self.size not in (None, preprocessing.size):
            changes["crop_pct"] = 1.0
        if self.mean is not None:
            changes["channels"] = len(self.mean)
        if self.mean is not None and self.std is not None:
            changes["assumed"] = False
        return replace(preprocessing, **changes)


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Return a PIL image converted, resized and cropped for a network; one that fits is returned as it is."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    mode = _MODES[preprocessing.channels]
    image = image if image.mode == mode else image.convert(mode)
    size = preprocessing.size
    if (image.height, image.width) == size:
        return image
    cover = covering((image.height, image.width), size, preprocessing.crop_pct)
    if cover != (image.height, image.width):
        image = transforms.resize(image, list(cover), InterpolationMode(preprocessing.interpolation))
    return cast("Image.Image", transforms.center_crop(image, list(size)))


def covering(image: tuple[int, int], size: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Return the (H, W) that keeps the image's proportions and just covers size / crop_pct."""
    height, width = round(size[0] / crop_pct), round(size[1] / crop_pct)
    if height * image[1] >= width * image[0]:
        return height, max(width, height * image[1] // image[0])
    return max(height, width * image[0] // image[1]), width


def _problems(settings: Preprocessing) -> list[str]:
    """Return what is wrong with the values of the settings."""
    checks = {
        f"channels must be from 1 to {_MOST_CHANNELS}, got {settings.channels}": 0
        < settings.channels
        <= _MOST_CHANNELS,
        f"mean must be {settings.channels} finite numbers, got {settings.mean}": (
            len(settings.mean) == settings.channels and all(map(math.isfinite, settings.mean))
        ),
        f"std must be {settings.channels} finite numbers above 0, got {settings.std}": (
            len(settings.std) == settings.channels and all(math.isfinite(v) and v > 0 for v in settings.std)
        ),
        f"size must be (height, width), both from 1 to {_LARGEST_SIDE}, got {settings.size}": (
            len(settings.size) == 2 and all(0 < side <= _LARGEST_SIDE for side in settings.size)
        ),
        f"longer_side must be from 1 to {_LARGEST_SIDE}, got {settings.longer_side}": (
            settings.longer_side is None or 0 < settings.longer_side <= _LARGEST_SIDE
        ),
        f"crop_pct must be in (0, 1], got {settings.crop_pct}": 0 < settings.crop_pct <= 1,
        f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {settings.interpolation!r}": (
            settings.interpolation in INTERPOLATIONS
        ),
    }
    return [problem for problem, holds in checks.items() if not holds]


# for networks whose preprocessing is not known
DEFAULT_PREPROCESSING = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, (224, 224), assumed=True)
