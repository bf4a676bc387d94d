"""What a pretrained network expects of its images, and the transform that brings an image there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from attn_surgeon.errors import DataError

if TYPE_CHECKING:
    from PIL import Image
    from torchvision.transforms import v2

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_MODES = {1: "L", 3: "RGB"}
_WHERE = "preprocessing"


@dataclass(frozen=True)
class Preprocessing:
    """Hold a network's normalisation (per channel) and its input size (H, W).

    `assumed` says that nobody told the normalisation.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    channels: int = 3
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    assumed: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no network can mean."""
        for problem in _problems(self):
            raise DataError(problem, _WHERE, "see the model's own data configuration")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; `assumed` is among them only where it is true."""
        known = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return known if self.assumed else {name: value for name, value in known.items() if name != "assumed"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Build the settings from JSON values, checking every type."""
        if not isinstance(values, Mapping):
            raise DataError(f"expected a table of settings, got {values!r}", _WHERE)
        known = [field.name for field in fields(cls)]
        if unknown := sorted(str(name) for name in values if name not in known):
            raise DataError(f"unknown setting {', '.join(unknown)}", _WHERE, f"known: {', '.join(known)}")
        if missing := [name for name in ("mean", "std", "size") if name not in values]:
            raise DataError(f"missing setting {', '.join(missing)}", _WHERE)
        return cls(**{name: _READERS[name](name, value) for name, value in values.items()})

    def transform(self) -> v2.Compose:
        """Return the transform from a PIL image to a normalised float tensor (C, H, W)."""
        import torch
        from torchvision.transforms import v2

        if self.channels not in _MODES:
            raise DataError(
                f"image files have 1 or 3 channels, the network wants {self.channels}",
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
    """What the user says of the images; None where the network's source decides."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return a preprocessing with these values in place of its own."""
        changes: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        if self.size not in (None, preprocessing.size):
            changes["crop_pct"] = 1.0
        if self.mean is not None:
            changes["channels"] = len(self.mean)
        if self.mean is not None and self.std is not None:
            changes["assumed"] = False
        return replace(preprocessing, **changes)


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Bring a PIL image to the right mode and size, leaving the pixels of one that fits alone."""
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
    """List what is wrong with the values of the settings."""
    checks = {
        f"channels must be positive, got {settings.channels}": settings.channels > 0,
        f"mean must hold {settings.channels} finite numbers, got {settings.mean}": (
            len(settings.mean) == settings.channels and all(map(math.isfinite, settings.mean))
        ),
        f"std must hold {settings.channels} finite numbers above 0, got {settings.std}": (
            len(settings.std) == settings.channels and all(math.isfinite(v) and v > 0 for v in settings.std)
        ),
        f"size must be (height, width), both positive, got {settings.size}": (
            len(settings.size) == 2 and min(settings.size) > 0
        ),
        f"crop_pct must lie in (0, 1], got {settings.crop_pct}": 0 < settings.crop_pct <= 1,
        f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {settings.interpolation!r}": (
            settings.interpolation in INTERPOLATIONS
        ),
    }
    return [problem for problem, holds in checks.items() if not holds]


def _integer(name: str, value: object) -> int:
    """Take a whole number; True is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{name} must be a whole number, got {value!r}", _WHERE)


def _number(name: str, value: object) -> float:
    """Take a number; True is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise DataError(f"{name} must be a number, got {value!r}", _WHERE)


def _flag(name: str, value: object) -> bool:
    """Take true or false."""
    if isinstance(value, bool):
        return value
    raise DataError(f"{name} must be true or false, got {value!r}", _WHERE)


def _text(name: str, value: object) -> str:
    """Take a string."""
    if isinstance(value, str):
        return value
    raise DataError(f"{name} must be a string, got {value!r}", _WHERE)


def _items(name: str, value: object) -> list[object]:
    """Take a list."""
    if isinstance(value, (list, tuple)):
        return list(value)
    raise DataError(f"{name} must be a list, got {value!r}", _WHERE)


def _numbers(name: str, value: object) -> tuple[float, ...]:
    """Take a list of numbers."""
    return tuple(_number(name, item) for item in _items(name, value))


def _integers(name: str, value: object) -> tuple[int, ...]:
    """Take a list of whole numbers."""
    return tuple(_integer(name, item) for item in _items(name, value))


_READERS: dict[str, Any] = {
    "mean": _numbers,
    "std": _numbers,
    "size": _integers,
    "channels": _integer,
    "interpolation": _text,
    "crop_pct": _number,
    "assumed": _flag,
}
