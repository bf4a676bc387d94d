"""Options of `attn-surgeon evaluate`, by their panels of the help."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.setting_options import option_of
from attn_surgeon.tasks import TASKS

ORIGINAL = "original"
_data, _scoring = (partial(typer.Option, rich_help_panel=panel) for panel in ("Data", "Scoring"))

Data = Annotated[
    str,
    _data(
        metavar="DATA",
        help="A folder with one folder of images per class, with images/ and masks/, or with boxes in COCO, Pascal VOC"
        " or YOLO format; torch/NAME, hfds/USER/NAME or wds/SHARDS, as timm names them; demo, demo-clutter or"
        " demo-boxes.",
    ),
]
TaskName = Annotated[
    str | None,
    _data(metavar="NAME", help=f"Task: {', '.join(TASKS)} (default: inferred from the data).", show_default=False),
]
Split = Annotated[str, _data(metavar="SPLIT", help="Split of the data, if it has splits.")]
Limit = Annotated[
    int | None,
    _data(metavar="N", help="Use at most N images, balanced over the classes.", min=1, max=10**9),
]
DataDir = Annotated[str | None, option_of("data_dir")]
Download = Annotated[bool, option_of("download")]
MaxBad = Annotated[
    float, _data(metavar="FRACTION", help="Largest fraction of unreadable images, which are skipped.", min=0, max=1)
]
IgnoreIndex = Annotated[int | None, option_of("ignore_index", "Data")]
ClassesByIndex = Annotated[
    bool,
    _data(
        "--classes-by-index",
        help="Match the data's classes to the network's first outputs where their names do not match.",
    ),
]
Compare = Annotated[
    str | None,
    _scoring(
        metavar="NETWORK",
        help="Score this network on the same images too: an artefact, a network as for insert, or 'original' for"
        " the same one without its grafts. --source, --weights, --arg, --mean, --std and --size apply to both.",
        autocompletion=completion.networks,
        show_default=False,
    ),
]
WithoutGrafts = Annotated[bool, _scoring("--without-grafts", help="Score the original network.")]
Robust = Annotated[
    bool,
    _scoring("--robust", help="Score under noise, blur, JPEG compression and clutter too, at five strengths each."),
]
CorruptionSeed = Annotated[int, _scoring("--seed", metavar="SEED", help="Random seed of --robust.", min=0, max=2**31)]
Report = Annotated[
    str | None,
    _scoring(
        metavar="DIR", help="Write the results and pictures of the predictions to this folder.", show_default=False
    ),
]
BatchSize = Annotated[int, _scoring(metavar="N", help="Images per batch.", min=1, max=10**6)]
Workers = Annotated[int, option_of("workers", "Scoring")]
