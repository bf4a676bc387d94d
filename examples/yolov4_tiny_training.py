"""Train YOLOv4-tiny on images with boxes in Pascal VOC's XML, and compute its mean average precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import PIL.Image
import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor
from torchvision.tv_tensors import BoundingBoxes, Image
from yolov4_tiny_loss import Target, detections, loss, priors

FLIPS = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])


@dataclass(frozen=True)
class Images:
    """Images (N, 3, H, W) as bytes, decoded and resized once, and the boxes of each."""

    pixels: Tensor
    targets: list[Target]

    def __getitem__(self, chosen: slice) -> Images:
        return Images(self.pixels[chosen], self.targets[chosen])

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[-2], self.pixels.shape[-1]


def class_names(folder: Path) -> list[str]:
    """Return the names of the classes that the annotations in a folder have, sorted."""
    found = (
        item.text or "" for file in folder.glob("*.xml") for item in ElementTree.parse(file).iterfind("object/name")
    )
    return sorted(set(found))


def read_images(folder: Path, names: list[str], size: tuple[int, int]) -> Images:
    """Read `images/*` and `annotations/*.xml`; boxes are cut off at the image's edges, empty ones left out."""
    pixels, targets = [], []
    resize = v2.Compose([v2.Resize(size, antialias=True), v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()])
    for file in sorted((folder / "annotations").glob("*.xml")):
        [path] = (folder / "images").glob(f"{file.stem}.*")
        image = Image(pil_to_tensor(PIL.Image.open(path).convert("RGB")))
        objects = ElementTree.parse(file).findall("object")
        corners = [
            [float(item.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")] for item in objects
        ]
        boxes = BoundingBoxes(torch.tensor(corners).reshape(-1, 4), format="XYXY", canvas_size=image.shape[-2:])
        labels = torch.tensor([names.index(item.findtext("name", "")) for item in objects], dtype=torch.int64)
        image, target = resize(image, {"boxes": boxes, "labels": labels})
        pixels.append(image)
        targets.append(target)
    if not targets:
        raise SystemExit(f"there are no annotations in {folder / 'annotations'}")
    return Images(torch.stack(pixels), targets)


def scaled(pixels: Tensor) -> Tensor:
    """Return bytes as the network's input, from 0 to 1."""
    return pixels.float().div(255).contiguous(memory_format=torch.channels_last)


def flipped(images: Images, index: int) -> tuple[Tensor, Target]:
    """Return an image and its boxes, flipped at random."""
    pair: tuple[Tensor, Target] = FLIPS(Image(images.pixels[index]), images.targets[index])
    return pair


def fit(network: nn.Module, images: Images, *, epochs: int, rate: float, batch: int = 8) -> float:
    """Train a network in place, flipping images at random, and return the mean loss of the last epoch."""
    given, steps = priors(*images.size), -(-len(images) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(images)), batch):
            pairs = [flipped(images, index) for index in chosen.tolist()]
            optimizer.zero_grad()
            value = loss(network(scaled(torch.stack([pair[0] for pair in pairs]))), [pair[1] for pair in pairs], given)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            total += value.item()
    return total / steps


@torch.no_grad()
def outputs(network: nn.Module, images: Images, batch: int = 32) -> list[Tensor]:
    """Return the network's two maps for all images, in eval mode."""
    network.eval()
    parts = [network(scaled(pixels)) for pixels in torch.split(images.pixels, batch)]
    return [torch.cat(maps) for maps in zip(*parts, strict=True)]


def average_precision(network: nn.Module, images: Images) -> dict[str, float]:
    """Return mAP, the mean over IoU thresholds from 0.5 to 0.95, and mAP50, at 0.5 alone."""
    metric = MeanAveragePrecision()
    metric.update(detections(outputs(network, images), images.size), images.targets)
    result = metric.compute()
    return {"mAP": result["map"].item(), "mAP50": result["map_50"].item()}
