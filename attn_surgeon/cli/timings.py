"""The tables that `profile` prints: networks, timings and grafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attn_surgeon.cli.output import console, print_table, table


def show(document: Mapping[str, Any], picture: str | None) -> None:
    """Print a profile."""
    out = console()
    print_table(out, _networks(document))
    out.print()
    print_table(out, _runs(document))
    if document["grafts"]:
        out.print()
        print_table(out, _grafts(document))
    if picture is not None:
        out.print(f"\nwrote {picture}", markup=False, soft_wrap=True)


def _networks(document: Mapping[str, Any]) -> Any:
    batches = sorted({row["batch"] for row in document["runs"]})
    memory = [f"memory, batch {batch}" for batch in batches]
    columns = ["network", "image", "parameters", "MACs", *memory]
    rows = [
        [
            network["name"],
            "×".join(map(str, network["image"])),
            f"{network['parameters']:,}",
            "-" if network["macs"] is None else f"{network['macs']:,}",
            *(_megabytes(network["activation_bytes"], batch) for batch in batches),
        ]
        for network in document["networks"]
    ]
    return table(f"profile on {document['device']}", columns, rows, right=columns[2:])


def _megabytes(bytes_by_batch: Mapping[int, int | None] | None, batch: int) -> str:
    size = None if bytes_by_batch is None else bytes_by_batch[batch]
    return "-" if size is None else f"{size / 1e6:.2f} MB"


def _runs(document: Mapping[str, Any]) -> Any:
    last = document["networks"][-1]["name"]
    columns = ["runtime", "batch", "network", "on", "median", "quartiles", "images/s", f"× {last}"]
    if len(document["networks"]) == 1:
        columns.pop()
    rows = [
        [
            row["runtime"],
            str(row["batch"]),
            row["network"],
            row["on"],
            f"{row['median_ms']:.3f} ms",
            _quartiles(row["quartiles_ms"]),
            f"{row['images_per_second']:,.1f}",
            "-" if row["ratio"] is None else f"{row['ratio']:.3f}",
        ][: len(columns)]
        for row in document["runs"]
    ]
    return table(
        f"latency over {document['rounds']} rounds, all networks in turn", columns, rows, right=["batch", *columns[4:]]
    )


def _grafts(document: Mapping[str, Any]) -> Any:
    columns = ["graft", "block", "parameters", "MACs", "saved without it", "quartiles"]
    rows = [
        [
            row["site"],
            row["block"],
            f"{row['parameters']:,}",
            f"{row['macs']:,}",
            "within the spread" if abs(row["saves_ms"]) < row["saves_spread_ms"] else f"{row['saves_ms']:.3f} ms",
            _quartiles(row["saves_quartiles_ms"]),
        ]
        for row in document["grafts"]
    ]
    title = f"grafts, in eager PyTorch at batch {document['grafts_batch']}"
    return table(title, columns, rows, right=columns[2:])


def _quartiles(milliseconds: Sequence[float]) -> str:
    lower, upper = milliseconds
    return f"{lower:.3f} to {upper:.3f} ms"
