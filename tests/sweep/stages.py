"""Compare the `stages` group with timm's own feature maps, or list where they disagree.

    python -m tests.sweep.stages --shard 1/2
    python -m tests.sweep.stages --only "ghostnet*"
    python -m tests.sweep.stages --table

The last feature that timm names at each stride is held against the last member of the group there: strides and
channels must be the same. Networks are on the meta device, at the size they are made for, the first of each family
before the others. Rows are appended to a file of JSON lines; what is there already is not compared again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import timm
import torch
from torch import nn

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.sites.survey import survey

from . import from_timm
from .__main__ import _shard
from .quick import build
from .stage_rows import StageRow, draw, read_rows
from .stage_verdicts import Level

_LARGEST = 150_000_000
_ROUNDING = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or draw the table; the exit status is 1 where a disagreement has no verdict."""
    given = _parser().parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if not given.table:
        torch.set_num_threads(1)
        _compare(given)
    rows = [row for row in read_rows(given.out).values() if fnmatch(row.name, given.only)]
    print(draw(rows))
    return int(any(row.open for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tests.sweep.stages", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="the I-th of N parts")
    parser.add_argument("--only", default="*", metavar="GLOB", help="names to compare")
    parser.add_argument("--largest", type=int, default=_LARGEST, help="most parameters to run with values")
    parser.add_argument("--out", type=Path, default=Path("runs/stages.jsonl"), help="the file of rows")
    parser.add_argument("--table", action="store_true", help="list the disagreements there are, and compare nothing")
    return parser


def _compare(given: argparse.Namespace) -> None:
    todo = list(_todo(given))
    for count, name in enumerate(todo, 1):
        row = compare_one(name, given.largest)
        with given.out.open("a") as file:
            file.write(json.dumps(row.to_dict()) + "\n")
        said = row.error or row.skipped or "; ".join(row.disagreements) or "agree"
        print(f"{count}/{len(todo)} {row.family}/{name} {row.seconds} s: {said}", file=sys.stderr, flush=True)


def _todo(given: argparse.Namespace) -> Iterator[str]:
    """List the names, the first of each family before the second of any."""
    part, whole = given.shard
    there, seen = read_rows(given.out), Counter[str]()
    turns: list[tuple[int, str]] = []
    for name in from_timm.names():
        turns.append((seen[from_timm.family(name)], name))
        seen[from_timm.family(name)] += 1
    names = [name for _, name in sorted(turns) if fnmatch(name, given.only)]
    yield from (name for name in names[part - 1 :: whole] if name not in there)


def compare_one(name: str, largest: int = _LARGEST) -> StageRow:
    """Compare one architecture; never raises."""
    row, started = StageRow(name, from_timm.family(name)), perf_counter()
    try:
        _fill(row, largest)
    except Exception as error:
        row.error = f"{type(error).__name__}: {first_line(error)}"
    row.seconds = round(perf_counter() - started, 2)
    return row


def _fill(row: StageRow, largest: int) -> None:
    model = _on_meta(row.name)
    features = getattr(model, "feature_info", None)
    if not features:
        row.skipped = "timm names no features"
        return
    row.theirs = sorted((int(each["reduction"]), int(each["num_chs"]), str(each["module"])) for each in features)
    try:
        row.ours = stage_levels(model)
    except Exception:
        if sum(parameter.numel() for parameter in model.parameters()) > largest:
            raise
        row.meta = False
        row.ours = stage_levels(build(partial(timm.create_model, row.name), largest))
    row.ours = snapped(row.ours, row.theirs)


def _on_meta(name: str) -> nn.Module:
    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(name).eval()
            return model
    except Exception:  # some look at values while they are built
        return build(partial(timm.create_model, name), 0)


def stage_levels(model: nn.Module) -> list[Level]:
    """Survey a network of timm at its own size; list its stages' strides, channels and names."""
    size: tuple[int, int, int] = cast(Any, model).default_cfg["input_size"]
    image = torch.zeros(1, *size, device=next(model.parameters()).device)
    found = survey(model, image)
    levels = []
    for name, side in found.groups["stages"]:
        feature = found.by_name[name].feature(side)
        assert feature is not None
        levels.append((round((size[1] * size[2] / feature.positions) ** 0.5), feature.channels, name))
    return levels


def snapped(levels: Sequence[Level], known: Sequence[Level]) -> list[Level]:
    """Give strides that are timm's but for rounding as timm's: it leaves the odd pixel out of its count."""
    strides = sorted({stride for stride, _, _ in known})
    near = {stride: min(strides, key=lambda other: abs(other - stride), default=stride) for stride, _, _ in levels}
    return [(near[s] if abs(near[s] - s) <= _ROUNDING * near[s] else s, channels, name) for s, channels, name in levels]


if __name__ == "__main__":
    sys.exit(main())
