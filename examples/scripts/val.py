"""Print the metrics of the network in an artefact as a JSON object, on the last line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Subset

import attn_surgeon
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, digits


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, as your own script does; only loading the network is attn-surgeon's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artefact")
    parser.add_argument("--images", type=int, default=400)
    options = parser.parse_args(arguments)

    net = attn_surgeon.load(options.artefact).eval()
    data = digits("demo-clutter", "val", transform=DEMO_PREPROCESSING.transform())
    with torch.no_grad():
        hits = [net(x).argmax(1) == y for x, y in DataLoader(Subset(data, range(options.images)), batch_size=100)]
    print(json.dumps({"accuracy": torch.cat(hits).double().tolist()}))  # one value an image


if __name__ == "__main__":
    main()
