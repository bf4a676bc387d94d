"""Whether the defaults are safe for every block: python -m tests.benchmarks.safe.

Each block that takes one input is put at the end of the demo's residual branches and trained with the defaults for a
short while on cluttered digits, everything and then grafts and head only. Prints a line a block.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.blocks.base.registry import block_names, get_card
from attn_surgeon.data.splits import open_labelled_splits
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, load_demo

from .trials import one_core

FREEZES = ("none", "base")


def top1(block: str | None, settings: FinetuneSettings) -> tuple[float, float]:
    """Train the demo with a block, or without; give its accuracy in per cent, and the loss."""
    loaded = LoadedNetwork(
        set_provenance(load_demo(), Provenance(SourceSpec("demo", "demo"), DEMO_PREPROCESSING, CLASS_NAMES))
    )
    model = loaded.model if block is None else insert(loaded.model, block, at="residual", example=loaded.example)
    parts = open_labelled_splits("demo-clutter", DEMO_PREPROCESSING, settings)
    with tempfile.TemporaryDirectory() as folder:
        done = train(model, parts, settings, Path(folder), loaded.example)
    return 100 * done.score.metric, done.score.loss


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each block's network is worth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--blocks", nargs="*")
    given = parser.parse_args(arguments)
    one_core()
    chosen = given.blocks or [name for name in block_names() if get_card(name).kind != "two inputs"]
    for name in [None, *chosen]:
        cells = []
        for freeze in FREEZES:
            settings = FinetuneSettings(epochs=given.epochs, limit=given.limit, freeze=freeze)
            accuracy, loss = top1(name, settings)
            cells.append(f"{accuracy:6.2f} % loss {loss:7.3f}{'' if math.isfinite(loss) else '  NOT FINITE'}")
        print(f"{name or 'no block':14} {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
