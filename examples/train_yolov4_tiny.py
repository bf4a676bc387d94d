"""Does attention help YOLOv4-tiny? Train it with and without, on images with boxes in Pascal VOC's XML.

    python examples/train_yolov4_tiny.py --data blood-cells --out runs/yolov4-tiny

The plain network is trained from random weights on every second training image: these are the *pretrained weights*.
Then blocks are inserted, and `attn_surgeon.compare` trains each network and its control on the other images. Started
again after an interruption, it goes on at the training that had not finished. Needs `torchmetrics` and
`pycocotools`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yolov4_tiny import yolov4_tiny
from yolov4_tiny_report import report
from yolov4_tiny_training import Images, average_precision, class_names, fit, outputs, read_images, scaled

import attn_surgeon
from attn_surgeon.files import replacing

RECIPES = Path(__file__).parents[1] / "recipes"
BLOCKS = ("se", "cbam", "eca", "coord", "backbone")  # the recipes yolov4-tiny-*
PUBLISHED = "-published"  # a recipe's blocks as published, written into the network before it gets its weights
VARIANTS = (*BLOCKS, f"backbone{PUBLISHED}")
FROM_RANDOM, FROM_PRETRAINED = 2e-3, 1e-3  # the largest learning rates


@dataclass(frozen=True)
class Settings:
    """What the results depend on."""

    data: str
    size: tuple[int, int]
    pretraining: int
    epochs: int
    seeds: int


@dataclass(frozen=True)
class Study:
    """The settings, the folder of the results, the halves of the training images, the others, the plain network."""

    settings: Settings
    out: Path
    classes: int
    first: Images
    second: Images
    validation: Images
    pretrained: nn.Module


def open_study(settings: Settings, out: Path) -> Study:
    """Read the data, and train the plain network on the first half, or read its weights."""
    data = Path(settings.data)
    names = class_names(data / "train" / "annotations")
    training, validation = (read_images(data / part, names, settings.size) for part in ("train", "val"))
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / "settings.json", settings)
    first, second, network = training[::2], training[1::2], plain(len(names))
    torch.manual_seed(0)
    train_or_read(network, out / "pretrained.pt", first, settings.pretraining, FROM_RANDOM)
    return Study(settings, out, len(names), first, second, validation, network)


def _claim(path: Path, settings: Settings) -> None:
    text = json.dumps(asdict(settings), indent=2) + "\n"
    if path.exists() and path.read_text() != text:
        raise SystemExit(f"{path} has other settings: choose another --out")
    with replacing(path) as temporary:
        Path(temporary).write_text(text)


def plain(classes: int) -> nn.Module:
    """Build the network with random weights, always the same."""
    with torch.random.fork_rng():  # the order of the images, which is drawn later, depends on the run's seed alone
        torch.manual_seed(0)
        return yolov4_tiny(classes).to(memory_format=torch.channels_last)


def train_or_read(network: nn.Module, path: Path, images: Images, epochs: int, rate: float) -> None:
    """Train a network in place and save its weights, or load those that are saved."""
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return
    fit(network, images, epochs=epochs, rate=rate)
    with replacing(path) as temporary:
        torch.save(network.state_dict(), temporary)


def with_attention(study: Study, variant: str, seed: int = 0) -> nn.Module:
    """Return the pretrained network with a recipe's blocks.

    As published, blocks start with random gates in a network that then gets the pretrained weights with `strict=False`:
    what one does who writes them into its source.
    """
    recipe = attn_surgeon.read_recipe(str(RECIPES / f"yolov4-tiny-{variant.removesuffix(PUBLISHED)}.yaml"))
    step, published = recipe.operations[0].insert, variant.endswith(PUBLISHED)
    operated = attn_surgeon.insert(
        plain(study.classes) if published else study.pretrained,
        step.block,
        after=step.after,
        options=step.options,
        init="paper" if published else "identity",
        seed=seed,
        example=scaled(study.validation.pixels[:2]),
    )
    if published:
        operated.load_state_dict(study.pretrained.state_dict(), strict=False)
    return operated


def right_after(study: Study, recipe: str) -> dict[str, Any]:
    """Return, from a file or anew, what the validation images give before any training: are outputs identical, mAP."""
    path = study.out / f"{recipe}.json"
    if not path.exists():
        network = with_attention(study, recipe)
        pairs = zip(outputs(study.pretrained, study.validation), outputs(network, study.validation), strict=True)
        drawn = [with_attention(study, f"{recipe}{PUBLISHED}", seed) for seed in range(study.settings.seeds)]
        found = {
            "identical": all(torch.equal(before, after) for before, after in pairs),
            "plain": average_precision(study.pretrained, study.validation),
            "identity": average_precision(network, study.validation),
            "published": [average_precision(model, study.validation) for model in drawn],
        }
        with replacing(path) as temporary:
            Path(temporary).write_text(json.dumps(found, indent=2) + "\n")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def train(study: Study, variant: str, network: nn.Module, seed: int) -> nn.Module:
    """Train on the second half; the control is the same in all variants, and is trained once for each seed."""
    epochs = study.settings.epochs
    if not attn_surgeon.list_grafts(network):
        train_or_read(network, study.out / f"control-{seed}.pt", study.second, epochs, FROM_PRETRAINED)
        return network
    if variant.endswith(PUBLISHED):
        network = with_attention(study, variant, seed)  # other random gates for each seed
    fit(network, study.second, epochs=epochs, rate=FROM_PRETRAINED)
    return network


def compare(study: Study, variant: str) -> dict[str, Any]:
    """Train a variant and its control with each seed, or read the comparison that is finished."""
    path = study.out / variant / "comparison.json"
    if not path.exists():
        result = attn_surgeon.compare(
            with_attention(study, variant),
            train=lambda network, seed, _: train(study, variant, network, seed),
            evaluate=lambda network: average_precision(network, study.validation),
            seeds=study.settings.seeds,
            out=path.parent,
            example=scaled(study.validation.pixels[:2]),
            progress=lambda step: print(f"{variant}: {step}", flush=True),
        )
        print(result, flush=True)
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def main() -> None:
    """Run the study, or what is left of it, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="train/ and val/, in each images/ and annotations/")
    parser.add_argument("--out", type=Path, default=Path("runs/yolov4-tiny"), help="the folder of the results")
    parser.add_argument("--size", type=int, nargs=2, default=(160, 192), help="height and width, multiples of 32")
    parser.add_argument("--pretraining", type=int, default=30, help="epochs of the plain network, from random weights")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each training from the pretrained weights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="one of these alone; can be repeated")
    given = parser.parse_args()
    if any(side < 32 or side % 32 for side in given.size):
        parser.error("--size takes multiples of 32")
    settings = Settings(given.data, tuple(given.size), given.pretraining, given.epochs, given.seeds)
    study = open_study(settings, given.out)
    variants = given.variant or VARIANTS
    recipes = dict.fromkeys(variant.removesuffix(PUBLISHED) for variant in variants)
    before = {name: right_after(study, name) for name in recipes}
    after = {name: compare(study, name) for name in variants}
    print(report(before, after))


if __name__ == "__main__":
    main()
