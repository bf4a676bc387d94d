"""Small images with masks, a network that labels pixels, and what trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing

SIZE = 16
RGB = Preprocessing((0.5,) * 3, (0.25,) * 3, (SIZE, SIZE))
SETTINGS = FinetuneSettings(task="segmentation", epochs=2, batch_size=4, crops=2, lr=3e-3)
EXAMPLE = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def write(
    root: Path,
    parts: Sequence[str] = ("train", "val"),
    *,
    count: int = 4,
    classes: int = 3,
    size: tuple[int, int] = (24, 20),
    stored: Callable[[np.ndarray], np.ndarray] = lambda mask: mask,
) -> Path:
    """Write images whose colour tells a pixel's class, and their masks; `stored` changes what is written of a mask."""
    dice = np.random.default_rng(0)
    colours = dice.integers(0, 256, (classes, 3))
    for part in parts:
        for folder in ("images", "masks"):
            (root / part / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            mask = dice.integers(0, classes, (size[0] // 4, size[1] // 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
            image = colours[mask] + dice.normal(0, 10, (*size, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / part / "images" / f"{index}.png")
            Image.fromarray(stored(mask)).save(root / part / "masks" / f"{index}.png")
    return root


class Labeller(nn.Module):
    """Score each pixel by the 3 x 3 around it."""

    def __init__(self, classes: int = 3, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to scores (N, classes, H, W)."""
        scores: Tensor = self.head(self.body(x))
        return scores


def labeller(classes: int = 3, grafts: bool = True) -> nn.Module:
    """Build the network, with a block in it."""
    torch.manual_seed(0)
    plain = Labeller(classes)
    model: nn.Module = insert(plain, "se", after="body", example=EXAMPLE) if grafts else plain
    set_provenance(model, Provenance(SourceSpec("object", "Labeller"), RGB))
    return model


def loaded(classes: int = 3) -> LoadedNetwork:
    """Give what a fine-tune starts from."""
    model = labeller(classes)
    return LoadedNetwork(set_provenance(model, Provenance(SourceSpec("object", "Labeller"), RGB)))
