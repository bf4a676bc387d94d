"""Write an evaluation to a folder: everything as JSON, each network's confusion matrix as CSV and as a picture."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.answers import Answers, confusion_matrix
from attn_surgeon.files import replacing

OUTSIDE = "(none of these)"
NUMBERED = 20  # more classes than this are shown by colour alone
NAMED = 60
DPI = 150


def make_folder(folder: Path) -> None:
    """Make the folder, before an evaluation takes its time; raise DataError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def write_report(folder: Path, document: str, answers: Sequence[Answers], class_names: Sequence[str]) -> None:
    """Write what one network answers, or what two do; files of an earlier report are replaced."""
    files = {"report.json": document.encode()}
    for own, suffix in zip(answers, ("", "-compare"), strict=False):
        counts = confusion_matrix(own, len(class_names))
        files[f"confusion{suffix}.csv"] = to_csv(counts, class_names)
        files[f"confusion{suffix}.png"] = to_png(counts, class_names)
    for name, content in files.items():
        try:
            with replacing(folder / name) as temporary:
                Path(temporary).write_bytes(content)
        except OSError as error:
            raise _unwritable(folder / name, error) from None


def to_csv(counts: Tensor, class_names: Sequence[str]) -> bytes:
    """Write a confusion matrix (K, K + 1): a row for each class, a column for each prediction."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *class_names, OUTSIDE])
    writer.writerows([name, *row] for name, row in zip(class_names, counts.tolist(), strict=True))
    return text.getvalue().encode()


def to_png(counts: Tensor, class_names: Sequence[str]) -> bytes:
    """Draw a confusion matrix (K, K + 1), each row as shares of its class; few classes with their counts."""
    from matplotlib.figure import Figure

    counts, names = (counts, [*class_names, OUTSIDE]) if counts[:, -1].any() else (counts[:, :-1], class_names)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = min(12.0, 4.5 + 0.25 * len(class_names))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="class")
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, label="share of the class", fraction=0.046)
    if len(class_names) <= NAMED:  # names are the user's: a dollar sign in them is no formula
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(class_names)), class_names, parse_math=False)
    if len(class_names) <= NUMBERED:
        for row, column in torch.nonzero(counts).tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=8)
    target = io.BytesIO()
    with warnings.catch_warnings():  # a script that the font does not know is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(target, format="png", dpi=DPI, bbox_inches="tight")
    return target.getvalue()


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write the report: {error.strerror or error}", str(path), "choose another --report")
