"""Image folders at growing distance from the images that the CIFAR-10 network was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from attn_surgeon.data.corruptions import corrupt
from attn_surgeon.data.sampling import shuffled
from tests.benchmarks import cifar

from .networks import groceries

SIDE, SCENE, PATCH = 32, 48, 16  # pixels of an image, of a scene around one, and of the patches of other images in it
VALIDATION = 1500  # images

Make = Callable[[Image.Image, int, list[Image.Image]], Image.Image]


def unchanged(image: Image.Image, number: int, others: list[Image.Image]) -> Image.Image:
    """Return the image, a JPEG file of what the network was trained on."""
    return image


def noisy(image: Image.Image, number: int, others: list[Image.Image]) -> Image.Image:
    """Return the image with strong Gaussian noise."""
    return corrupt(image, "noise", 5, [number], others)


def cluttered(image: Image.Image, number: int, others: list[Image.Image]) -> Image.Image:
    """Return a larger scene of patches of other images with the image at a random place."""
    drawn = np.random.default_rng(number)
    scene = Image.new("RGB", (SCENE, SCENE))
    for x in range(0, SCENE, PATCH):
        for y in range(0, SCENE, PATCH):
            left, top = drawn.integers(0, SIDE - PATCH + 1, 2).tolist()
            other = others[int(drawn.integers(len(others)))]
            scene.paste(other.crop((left, top, left + PATCH, top + PATCH)), (x, y))
    x, y = drawn.integers(0, SCENE - SIDE + 1, 2).tolist()
    scene.paste(image, (x, y))
    return scene


def resized(image: Image.Image, number: int, others: list[Image.Image]) -> Image.Image:
    """Return a photograph at the size of the others."""
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)


DOMAINS: dict[str, tuple[Callable[[], Path], Make, int]] = {
    "JPEG files": (partial(cifar.unpacked, "cifar10-jpeg"), unchanged, SIDE),
    "noise": (partial(cifar.unpacked, "cifar10-jpeg"), noisy, SIDE),
    "clutter": (partial(cifar.unpacked, "cifar10-jpeg"), cluttered, SCENE),
    "groceries": (groceries, resized, SIDE),
}


def folder(name: str, images: int) -> Path:
    """Return the image folder of a domain with so many training images, written once into the user's cache."""
    source, make, _ = DOMAINS[name]
    root = cifar.CACHE / f"domain-{name.replace(' ', '-')}-{images}"
    if not (root / "whole").exists():
        for split, count in {"train": images, "val": VALIDATION}.items():
            _write(source() / split, root / split, make, count)
        (root / "whole").touch()
    return root


def _write(source: Path, target: Path, make: Make, count: int) -> None:
    files = sorted(path for path in source.glob("*/*") if path.is_file())
    order = [files[number] for number in shuffled(len(files), 0, 0)]
    seen: Counter[str] = Counter()
    turns = {path: (seen.update([path.parent.name]), seen[path.parent.name])[1] for path in order}
    chosen = sorted(order, key=turns.__getitem__)[:count]  # one image of each class in turn
    others = [_opened(path) for path in chosen[:200]]
    for number, path in enumerate(chosen):
        made = target / path.parent.name / f"{path.stem}.png"
        made.parent.mkdir(parents=True, exist_ok=True)
        make(_opened(path), number, others).save(made)


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
