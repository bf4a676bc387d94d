"""Settings of the data: training and validation images, downloads, unreadable images, augmentation, crops, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from attn_surgeon.errors import option
from attn_surgeon.settings import setting, validate

_data = partial(setting, panel="Data")


@dataclass(frozen=True)
class DataSettings:
    """Settings of labelled images."""

    val_split: float | None = _data(
        None,
        "Fraction of the training images to hold out for validation (default: 0.1 where the data has no validation"
        " split).",
        "FRACTION",
        fraction=True,
        positive=True,
        hint=f"try {option('val_split', 0.2)}",
    )
    val_data: str | None = _data(
        None, f"Validate on this data instead of the validation split of {option('data')}.", "DATA"
    )
    data_dir: str | None = _data(None, "Root folder of torch/, hfds/ and wds/ datasets.", "DIR")
    download: bool = _data(False, "Download a torch/, hfds/ or wds/ dataset if it is missing.")
    limit: int | None = _data(None, "Train on at most N images, balanced over the classes.", "N", least=1)
    max_bad: float = _data(
        0.01, "Largest fraction of unreadable images in a split; they are skipped.", "FRACTION", fraction=True
    )
    leaks: str = _data(
        "warn",
        "What to do about validation images that are also training images, byte for byte: warn or refuse.",
        "ACTION",
        choices=("warn", "refuse"),
    )
    augment: bool = _data(
        True,
        "Augment RGB images: random shift and horizontal flip from 32 pixels, random resized crop and flip from 64.",
    )
    workers: int = _data(0, "Data-loading worker processes.", "N", least=0, most=256)
    seed: int = setting(0, "Random seed of the first run.", "SEED", panel="Run", least=0)

    def __post_init__(self) -> None:
        """Raise SettingsError where a value is invalid."""
        validate(self)


_segmentation = partial(setting, panel="Segmentation", only="segmentation")


@dataclass(frozen=True)
class CropSettings(DataSettings):
    """Settings of images with masks: crops for training, sliding windows for evaluation."""

    crop: int | None = _segmentation(
        None,
        "Side of the training crops and of the sliding windows (default: the network's input size).",
        "N",
        least=1,
    )
    crops: int | None = _segmentation(
        None, "Crops per image and epoch (default: as many as cover the image).", "N", least=1
    )
    overlap: float = _segmentation(0.25, "Overlap of neighbouring sliding windows.", "FRACTION", fraction=True)
    ignore_index: int | None = _segmentation(
        None, "Mask value to ignore (default: 255, unless masks hold only 0 and 255).", "VALUE", least=0
    )


@dataclass(frozen=True)
class BoxSettings(CropSettings):
    """Settings of images with boxes."""

    longer_side: int | None = setting(
        None,
        "Scale images so that their longer side has N pixels (default: the network's input size; their own size for"
        " networks that resize images themselves).",
        "N",
        panel="Detection",
        only="detection",
        least=1,
        most=65_536,
    )
