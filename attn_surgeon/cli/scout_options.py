"""Options of `attn-surgeon scout` and `attn-surgeon prune`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from attn_surgeon.cli import completion

_optional = partial(typer.Option, show_default=False)

TrainingData = Annotated[
    str, typer.Option(metavar="DATA", help="Data as for finetune; candidates are scored on its training images.")
]
ValidationData = Annotated[str, typer.Option(metavar="DATA", help="Data as for evaluate: removals are measured on it.")]
Blocks = Annotated[str, typer.Option(metavar="BLOCKS", help="Blocks to try at each site, with commas between them.")]
Groups = Annotated[
    str | None,
    _optional(
        "--at",
        metavar="GROUPS",
        help="Groups of sites, with commas between them (default: stages,residual).",
        autocompletion=completion.groups,
    ),
]
BudgetText = Annotated[
    str, typer.Option(metavar="SIZE", help="Most parameters to add: 5% of the network's, or a number.")
]
LatencyText = Annotated[
    str | None, _optional(metavar="PERCENT", help="Most time to add for one image: 10% of the network's.")
]
ScoreName = Annotated[
    str, typer.Option("--score", metavar="NAME", help="Definition of the score that the set is chosen by.")
]
EveryScore = Annotated[
    bool, typer.Option("--every-score", help="Compute all definitions of the score, for the report.")
]
Batches = Annotated[int, typer.Option(metavar="N", help="Batches to score on.", min=1, max=10**6)]
ImagesPerBatch = Annotated[int, typer.Option("--batch-size", metavar="N", help="Images per batch.", min=1, max=10**6)]
HeadImages = Annotated[int, typer.Option(metavar="N", help="Most images to fit a head on.", min=1, max=10**9)]
FitHead = Annotated[bool | None, _optional(help="Fit the head on frozen features first (default: one that is new).")]
AtOnce = Annotated[
    int, typer.Option(metavar="N", help="Most candidates in the network at once; fewer take less memory.", min=1)
]
TrialSteps = Annotated[
    int,
    typer.Option(
        metavar="N", help="Steps of training with the set and without it, compared at the end; 0: none.", min=0
    ),
]
ImageSeed = Annotated[int, typer.Option("--seed", metavar="SEED", help="Random seed.", min=0, max=2**31)]
JsonFile = Annotated[str | None, _optional("--report", metavar="FILE.json", help="Write all results to this file.")]
Picture = Annotated[str | None, _optional(metavar="FILE.png", help="Draw the scores to this file.")]
PlanOutput = Annotated[
    str | None, _optional("--output", "-o", metavar="FILE.yaml", help="Write the plan of the chosen set.")
]
MaxLoss = Annotated[
    float, typer.Option(metavar="POINTS", help="Most points, of 100, that all removals together may lose.", min=0)
]
Certain = Annotated[
    bool, typer.Option("--certain", help="Require that the upper end of the interval stays below --max-loss too.")
]
