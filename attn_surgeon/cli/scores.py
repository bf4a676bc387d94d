"""What `evaluate` shows of a network's scores, of a comparison, and of corrupted images."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from attn_surgeon.cli.output import console, facts, print_table, table

WORST = 5
Document = dict[str, Any]


def show(document: Document) -> None:
    """Show an evaluation."""
    out, rival = console(), document.get("compare")
    against = "" if rival is None else f" against [bold]{escape(rival['network'])}[/]"
    out.print(f"[bold]{escape(document['network'])}[/]{against} on {escape(document['data'])}", soft_wrap=True)
    out.print(facts(_rows(document)) if rival is None else _both(document, rival))
    if rival is not None:
        _show_comparison(rival)
    if "robust" in document:
        show_robust(document["robust"], rival, "top1", "top-1 in %")


def _rows(scores: Document) -> list[tuple[str, str]]:
    top5 = "-" if scores["top5"] is None else f"{percent(scores['top5'])}  ({scores['correct5']:,})"
    return [
        ("images", f"{scores['images']:,}"),
        ("top-1", f"{percent(scores['top1'])}  ({scores['correct']:,})"),
        ("top-5", top5),
        ("loss", f"{scores['loss']:.4f}"),
        ("ECE", f"{percent(scores['ece'])}  (expected calibration error, 15 bins)"),
        ("worst", _worst(scores)),
        ("confused", _confused(scores)),
        ("logits", f"sha256 {scores['logits_sha256'][:16]}…"),
        ("time", f"{scores['seconds']:.1f} s"),
    ]


def _both(first: Document, second: Document) -> Table:
    rows = [[name, own, other] for (name, own), (_, other) in zip(_rows(first), _rows(second), strict=True)]
    return table("", ["", first["network"], second["network"]], rows)


def _worst(scores: Document) -> str:
    """Name the classes with the lowest accuracy."""
    known = [own for own in scores["classes"] if own["images"]]
    lowest = sorted(known, key=lambda own: own["accuracy"])[:WORST]
    return ", ".join(f"{own['name']} {percent(own['accuracy'])}" for own in lowest)


def _confused(scores: Document) -> str:
    """Name the classes that are most often taken for another."""
    pairs = [
        f"{pair['label']} as {pair['predicted'] or 'none of these'} ({pair['images']:,})"
        for pair in scores["confused"][:WORST]
    ]
    return ", ".join(pairs) or "-"


def _show_comparison(rival: Document) -> None:
    out, test = console(), rival["mcnemar"]
    only = f"right only the first {test['only_first']:,}, only the second {test['only_second']:,}"
    rows = [
        ("difference", f"{interval(rival['difference'])} ({rival['difference']['how']})"),
        ("McNemar", f"p = {test['p']:.3g}; {only}"),
    ]
    out.print()
    out.print(facts(rows))
    widest = sorted(rival["class_differences"], key=lambda own: -abs(own["first"] - own["second"]))[:WORST]
    cells = [
        [
            own["name"],
            f"{own['images']:,}",
            percent(own["first"]),
            percent(own["second"]),
            interval(own["difference"]),
        ]
        for own in widest
    ]
    columns = ["class", "images", "first", "second", "difference"]
    print_table(out, table("\nclasses that differ most, each for itself", columns, cells, right=columns[1:]))
    out.print(f"[bold]{escape(rival['verdict'])}[/]", soft_wrap=True)


def show_robust(robust: Document, rival: Document | None, value: str, title: str) -> None:
    """Show what came of corrupted images; `value` is under what name trials hold it."""
    out = console()
    if rival is None:
        print_table(out, _grid(f"\n{title} by strength", robust, value, robust["means"]))
        return
    print_table(out, _grid(f"\n{title} of the first, by strength", robust, value, robust["means"]))
    print_table(out, _grid(f"\n{title} of the second", robust, f"compare_{value}", robust["compare_means"]))
    gain = robust["gain"]
    ahead = [(kind, interval(own)) for kind, own in gain["kinds"].items()]
    rows = [*ahead, ("mean", interval(gain["mean"])), ("beyond clean", interval(gain["beyond_clean"]))]
    out.print("\n[bold]difference, first less second, in the mean over strengths[/]")
    out.print(facts(rows))
    out.print(f"[bold]{escape(gain['verdict'])}[/]", soft_wrap=True)
    out.print(f"[bold]{escape(gain['verdict_beyond_clean'])}[/]", soft_wrap=True)


def _grid(title: str, robust: Document, value: str, means: dict[str, float]) -> Table:
    """Make a table of a row for each kind, a column for each strength, and the means."""
    kinds: dict[str, list[str]] = {trial["kind"]: [] for trial in robust["trials"]}
    for trial in robust["trials"]:
        kinds[trial["kind"]].append(f"{100 * trial[value]:.2f}")
    rows = [[kind, *cells, f"{100 * means[kind]:.2f}"] for kind, cells in kinds.items()]
    strengths = sorted({str(trial["strength"]) for trial in robust["trials"]})
    rows.append(["mean", *[""] * len(strengths), f"{100 * means['mean']:.2f}"])
    columns = ["", *strengths, "mean"]
    return table(title, columns, rows, right=columns[1:])


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.2f} %"


def interval(difference: dict[str, float]) -> str:
    """Write a difference and its 95 % interval in points."""
    estimate, low, high = (100 * difference[name] for name in ("estimate", "low", "high"))
    return f"{estimate:+.2f}, 95 % {low:+.2f} to {high:+.2f}"
