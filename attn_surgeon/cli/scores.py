"""Tables of scores, comparisons and corrupted images, for `evaluate` and `finetune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from attn_surgeon.cli.output import console, key_value_table, print_table, table

if TYPE_CHECKING:
    from attn_surgeon.tasks.base import Metric, Task

_MOST_CLASSES = 5  # in the table of differences
Document = Mapping[str, Any]


def show_evaluation(document: Document, task: Task) -> None:
    """Print an evaluation of one network, or of two."""
    out, compared = console(), document.get("compare")
    networks = [document] if compared is None else [document, compared]
    names = [str(network["network"]) for network in networks]
    against = "" if compared is None else f" against [bold]{escape(names[1])}[/]"
    out.print(f"[bold]{escape(names[0])}[/]{against} on {escape(document['data'])}", soft_wrap=True)
    time = "time" if compared is None else "time of both"
    columns = [[*task.rows(network), (time, f"{network['seconds']:.1f} s")] for network in networks]
    if compared is None:
        out.print(key_value_table(columns[0]))
    else:
        rows = [[name, value, other] for (name, value), (_, other) in zip(*columns, strict=True)]
        out.print(table("", ["", *names], rows))
    if task.class_metric is not None:
        titles = [task.class_metric.title] if compared is None else names
        show_classes(task.class_metric, dict(zip(titles, networks, strict=True)))
    if compared is not None:
        _show_comparison(compared)
    if "robust" in document:
        _show_robust(document["robust"], compared, task.image_metric)


def show_classes(metric: Metric, columns: Mapping[str, Document]) -> None:
    """Print a table of a metric of each class, a column for each document."""
    tables = [column[metric.key] for column in columns.values()]
    rows = [[name, *(percent_text(own[name]) for own in tables)] for name in tables[0]]
    print_table(console(), table(f"\n{metric.title} of each class", ["class", *columns], rows, right=list(columns)))


def comparison_rows(document: Document, first: str, second: str) -> list[tuple[str, str]]:
    """Return the rows of a difference and its paired test, labelled with the names of the two networks."""
    difference = document["difference"]
    rows = [("difference", f"{interval_text(difference)} ({difference['how']})")]
    if (test := document.get("mcnemar")) is not None:
        only = [value for name, value in test.items() if name.startswith("only_")]
        counts = f"right only {first} {only[0]:,}, only {second} {only[1]:,}"
        rows.append(("McNemar", f"p = {test['p']:.3g}; {counts}{_how(test)}"))
    if (test := document.get("wilcoxon")) is not None:
        counts = f"better on {test['better']:,} images, worse on {test['worse']:,}"
        rows.append(("signed-rank", f"p = {test['p']:.3g}; {counts}{_how(test)}"))
    if (images := document.get("by_image")) is not None:
        counts = f"better {first} on {images['better']:,}, worse on {images['worse']:,}"
        rows.append(("images", f"{counts}, by the mean over the runs"))
    return rows


def _how(test: Document) -> str:
    return f" ({test['how']})" if "how" in test else ""


def _show_comparison(compared: Document) -> None:
    out = console()
    out.print()
    out.print(key_value_table(comparison_rows(compared, "the first", "the second")))
    if "class_differences" in compared:
        _show_class_differences(compared["class_differences"])
    out.print(f"[bold]{escape(compared['verdict'])}[/]", soft_wrap=True)


def _show_class_differences(differences: Sequence[Document]) -> None:
    largest = sorted(differences, key=lambda own: -abs(own["first"] - own["second"]))[:_MOST_CLASSES]
    rows = [
        [
            own["name"],
            f"{own['images']:,}",
            percent_text(own["first"]),
            percent_text(own["second"]),
            interval_text(own["difference"]),
        ]
        for own in largest
    ]
    columns = ["class", "images", "first", "second", "difference"]
    print_table(console(), table("\nclasses with the largest differences", columns, rows, right=columns[1:]))


def _show_robust(robust: Document, compared: Document | None, metric: Metric) -> None:
    out, title = console(), f"{metric.title} in %"
    if compared is None:
        print_table(out, _grid(f"\n{title}, by strength", robust, metric.key, robust["means"]))
        return
    print_table(out, _grid(f"\n{title} of the first, by strength", robust, metric.key, robust["means"]))
    print_table(out, _grid(f"\n{title} of the second", robust, f"compare_{metric.key}", robust["compare_means"]))
    gain = robust["gain"]
    rows = [(kind, interval_text(own)) for kind, own in gain["kinds"].items()]
    rows += [
        ("mean", interval_text(gain["mean"])),
        ("mean minus that on clean images", interval_text(gain["beyond_clean"])),
    ]
    out.print("\n[bold]difference, first minus second, mean over strengths[/]")
    out.print(key_value_table(rows))
    out.print(f"[bold]{escape(gain['verdict'])}[/]", soft_wrap=True)
    out.print(f"[bold]{escape(gain['verdict_beyond_clean'])}[/]", soft_wrap=True)


def _grid(title: str, robust: Document, key: str, means: Mapping[str, float]) -> Table:
    """Return a table with a row for each kind, a column for each strength, and the means."""
    kinds: dict[str, list[str]] = {trial["kind"]: [] for trial in robust["trials"]}
    for trial in robust["trials"]:
        kinds[trial["kind"]].append(f"{100 * trial[key]:.2f}")
    rows = [[kind, *cells, f"{100 * means[kind]:.2f}"] for kind, cells in kinds.items()]
    strengths = sorted({str(trial["strength"]) for trial in robust["trials"]})
    rows.append(["mean", *[""] * len(strengths), f"{100 * means['mean']:.2f}"])
    columns = ["", *strengths, "mean"]
    return table(title, columns, rows, right=columns[1:])


def percent_text(value: float | None) -> str:
    """Return a fraction in per cent, or a dash for None."""
    return "-" if value is None else f"{100 * value:.2f} %"


def points_text(value: float | None) -> str:
    """Return a difference of fractions in points, or a dash for None."""
    return "-" if value is None else f"{100 * value:+.2f}"


def interval_text(difference: Document) -> str:
    """Return a difference and its 95 % interval in points."""
    estimate, low, high = (points_text(difference[name]) for name in ("estimate", "low", "high"))
    return f"{estimate}, 95 % {low} to {high}"
