r"""Train the network in an artefact, and write the trained one to a folder.

attn-surgeon insert demo --block se --at residual
attn-surgeon compare demo-se.safetensors \
    --train 'python examples/scripts/train.py {artefact} --seed {seed} --out {folder}' \
    --evaluate 'python examples/scripts/val.py {artefact}'
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

import attn_surgeon
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, digits


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, as your own script does; only loading and saving the network are attn-surgeon's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artefact")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=400)
    options = parser.parse_args(arguments)

    torch.manual_seed(options.seed)
    net = attn_surgeon.load(options.artefact)
    data = digits("demo-clutter", "train", transform=DEMO_PREPROCESSING.transform())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net.train()
    for _ in range(options.epochs):
        for x, y in DataLoader(Subset(data, range(options.images)), batch_size=32, shuffle=True):
            optimizer.zero_grad()
            loss: Any = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
    attn_surgeon.save(net, options.out / "trained.safetensors")


if __name__ == "__main__":
    main()
