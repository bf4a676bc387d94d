"""The printed result of a fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from attn_surgeon.cli.output import console, key_value_table, print_table, table
from attn_surgeon.cli.scores import comparison_rows, percent_text, points_text, show_classes
from attn_surgeon.finetune.settings import BEST

if TYPE_CHECKING:
    from attn_surgeon.finetune.job import FinetuneJob
    from attn_surgeon.tasks.base import Metric


def show(result: dict[str, Any], job: FinetuneJob) -> None:
    """Print what a fine-tune reached: the score of each run, what each graft did, and the test against the control."""
    out, metric = console(), job.task.metric
    out.print(f"[bold]{escape(result['folder'])}[/]", soft_wrap=True)
    images = f"{result['train_images']:,} for training, {result['images']:,} for validation"
    if result["data"]["unreadable"]:
        images += f"; {result['data']['unreadable']:,} unreadable, see bad-images.txt"
    before = percent_text(result["before"])
    known = [("images", images), (f"{metric.title} before", before), ("added", _added(result["added"]))]
    if len(result["runs"]) > 1:
        vary, same = (", ".join(result["seeds"][name]) for name in ("vary", "same"))
        known.append(("seeds", f"vary: {vary}; the same in all runs: {same}"))
    out.print(key_value_table(known))
    print_table(out, _runs_table(result["runs"], metric))
    if job.task.class_metric is not None:
        show_classes(job.task.class_metric, _mean_of_seeds(result["runs"], job.task.class_metric.key))
    if result["grafts"]:
        print_table(out, _grafts_table(result))
    best = next(iter(sorted(job.folder.rglob(f"seed-*-grafts/{BEST}"))), job.folder / BEST)
    if best.exists():
        out.print(f"[dim]trained network: {escape(str(best))}[/]", soft_wrap=True)
    if "verdict" in result:
        out.print()
        out.print(key_value_table(comparison_rows(result, "with grafts", "without")))
        out.print(f"[bold]{escape(result['verdict'])}[/]", soft_wrap=True)


def _runs_table(runs: list[dict[str, Any]], metric: Metric) -> Any:
    arms = [arm for arm in ("grafts", "control") if arm in runs[0]]
    rows = [[str(run["seed"]), *(percent_text(run[arm][metric.key]) for arm in arms)] for run in runs]
    columns = ["seed", *arms]
    if "control" in arms:
        columns.append("difference")
        rows = [[*row, points_text(run["difference"])] for row, run in zip(rows, runs, strict=True)]
    return table(f"\n{metric.title} after the last epoch", columns, rows, right=columns[1:])


def _added(added: dict[str, Any]) -> str:
    with_grafts, without = (
        f"{added[f'{name}_ms']:.2f} ms (IQR {added[f'{name}_spread_ms']:.2f})"
        for name in ("latency", "latency_without")
    )
    cost = f"{added['parameters']:,} parameters, {added['macs']:,} MACs"
    return f"{cost}; latency of an image {with_grafts}, without grafts {without}"


def _grafts_table(result: dict[str, Any]) -> Any:
    rows = [
        [
            graft["site"],
            graft["block"],
            f"{graft['parameters']:,}",
            f"{graft['macs']:,}",
            f"{_mean(graft['opened']):.3f}",
            points_text(_mean(graft["closing_costs"])),
        ]
        for graft in result["grafts"]
    ]
    lost = f"points of {result['title']} lost if bypassed"
    columns = ["graft", "block", "parameters", "MACs", "opened", lost]
    return table("\ngrafts", columns, rows, right=columns[2:])


def _mean_of_seeds(runs: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """Return, for each trained network, a table of the mean of each class over the seeds."""
    tables: dict[str, dict[str, Any]] = {}
    for arm in (arm for arm in ("grafts", "control") if arm in runs[0]):
        values = {name: [run[arm][key][name] for run in runs] for name in runs[0][arm][key]}
        known = {name: [value for value in own if value is not None] for name, own in values.items()}
        tables[arm] = {key: {name: _mean(own) if own else None for name, own in known.items()}}
    return tables


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
