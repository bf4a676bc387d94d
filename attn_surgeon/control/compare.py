"""Train a network with grafts and its control in the caller's own training loop, and compare them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean

from torch import Tensor, nn

from attn_surgeon.artefact.tensors import fingerprint
from attn_surgeon.control.arms import ARMS, ArmResult, Evaluate, Loop, Train, code_text, run_arm
from attn_surgeon.control.comparison import Comparison, GraftEffect, compare_metrics
from attn_surgeon.control.metrics import metric_values
from attn_surgeon.errors import ArtefactError, SettingsError, option
from attn_surgeon.files import claimed, remove_leftovers, replacing
from attn_surgeon.measure.cost import graft_costs, parameters
from attn_surgeon.measure.latency import latencies
from attn_surgeon.operations.block_fitting import redraw_grafts
from attn_surgeon.operations.remove import remove
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.running import Example
from attn_surgeon.text_files import read_json
from attn_surgeon.validation import validated

EXPERIMENT, COMPARISON = "experiment.json", "comparison.json"


def compare(
    network: nn.Module,
    *,
    train: Train,
    evaluate: Evaluate,
    seeds: int | Sequence[int] = 3,
    out: str | Path = "runs/compare",
    example: Example | None = None,
    bypass: bool = True,
    progress: StepProgress = no_steps,
) -> Comparison:
    """Train a network with grafts and the same one without them in your own loop, and return how they compare.

    Both networks start from the same weights with the same seed, each in a folder of its own; seeds after the first
    draw the initial weights of grafts that are still the identity again. After each training it is
    checked that the grafts are still in the network, have changed, and run. A comparison that was interrupted goes on
    at the training that had not finished: call it again with the same `out`. A finished one is not begun again.

    Args:
        network: a network with grafts; it is not changed.
        train: is called as `train(network, seed, folder)`; trains the network in place, or returns the trained one.
        evaluate: is called as `evaluate(network)`; returns a number, or numbers by name. A sequence of numbers instead
            of one are the values of single validation images, always the same images in the same order: the number is
            their mean, and the interval is over images too.
        seeds: the number of training runs of each, with seeds 0, 1, …; or the seeds themselves.
        out: the folder of the results.
        example: one input of the network, usually (N, C, H, W), to measure what the grafts cost; without it they are
            not measured.
        bypass: evaluate each trained network once more for each graft, with that graft alone bypassed.
        progress: is called with a line about what begins.

    Returns:
        the comparison; printed it is a table and one sentence for each metric. `comparison.json` in the folder holds
        it as plain data.

    Raises:
        LostGraftError: the trained network has lost grafts, or they do not run when it is evaluated.
        TrainingError: no graft has changed in training, or a value that was returned is none.
        SettingsError: the network has no grafts, there are no seeds, `train` does not take the three arguments, or the
            folder has a finished comparison, one of another network or loop, or something else.
        BusyError: another process writes the folder.

    Example:
        >>> import tempfile, torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> x, y = torch.randn(8, 1, 32, 32), torch.arange(8)
        >>> network = attn_surgeon.insert(load_demo(), "se", after="layer3", example=x)
        >>> def train(net, seed, folder):
        ...     optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        ...     for _ in range(2):
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.cross_entropy(net(x), y).backward()
        ...         optimizer.step()
        >>> def evaluate(net):
        ...     return {"accuracy": (net(x).argmax(1) == y).float().tolist()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = attn_surgeon.compare(network, train=train, evaluate=evaluate, seeds=2, out=folder)
        >>> sorted(result.metrics), len(result.metrics["accuracy"].grafts)
        (['accuracy'], 2)
    """
    _require_arguments(train)
    loop = Loop(train, evaluate, code_text(train, evaluate))
    return run_comparison(
        network, loop, seeds=seeds, folder=Path(out), example=example, bypass=bypass, progress=progress
    )


def run_comparison(
    network: nn.Module,
    loop: Loop,
    *,
    seeds: int | Sequence[int],
    folder: Path,
    example: Example | None,
    bypass: bool,
    progress: StepProgress,
) -> Comparison:
    """Carry out `compare` with a loop that may run in other processes."""
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise SettingsError(f"these are no different seeds: {chosen}", "seeds", "give a number of at least 1")
    if not list_grafts(network):
        raise SettingsError("the network has no grafts to compare", "network", "insert some first")
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        _claim_experiment(folder, network, loop)
        remove_leftovers(folder)
        finished = sorted(path.parent.name for path in folder.glob("seed-*/result.json"))
        if finished:
            progress(f"resume after {', '.join(finished)}")
        progress("evaluate before training")
        before = metric_values(loop.evaluate(copied(network)))
        run = partial(_finished_or_run, folder, loop, bypass=bypass, progress=progress)
        start = partial(_start, network, first_seed=chosen[0])
        results = [run(start, arm, seed) for seed in chosen for arm in ARMS]
        effects = _effects(network, results, example)
        latency = _latency(network, example) if isinstance(example, Tensor) else None
        metrics = compare_metrics(before, results)
        comparison = Comparison(str(folder), tuple(chosen), metrics, effects, latency)
        with replacing(folder / COMPARISON) as temporary:
            Path(temporary).write_text(json.dumps(comparison.to_dict(), indent=2) + "\n")
    return comparison


def _require_arguments(train: Train) -> None:
    """Raise SettingsError where `train` cannot be called with a network, a seed and a folder."""
    try:
        inspect.signature(train).bind(None, 0, Path())
    except TypeError as error:
        raise SettingsError(f"train cannot be called: {error}", "train", "take (network, seed, folder)") from None
    except ValueError:  # some callables of C have no signature
        pass


def _claim_experiment(folder: Path, network: nn.Module, loop: Loop) -> None:
    """Write what is compared, or require that the folder's comparison began with the same and is not finished."""
    grafted = [item.place for item in list_grafts(network)]
    start = {"network": fingerprint(network), "grafts": grafted, "loop": loop.text}
    path, hint = folder / EXPERIMENT, f"choose another {option('out')}"
    if (folder / COMPARISON).exists():
        raise SettingsError("this comparison is finished", str(folder / COMPARISON), hint)
    if path.exists():
        begun = read_json(path, ArtefactError)
        if begun != start:
            different = "network" if begun.get("network") != start["network"] else "training loop"
            raise SettingsError(f"the folder has a comparison of another {different}", str(folder), hint)
        return
    if any(not file.name.startswith(".") for file in folder.iterdir()):
        raise SettingsError("the folder is not empty", str(folder), hint)
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(start, indent=2) + "\n")


def _start(network: nn.Module, arm: str, seed: int, *, first_seed: int) -> nn.Module:
    """Return the network that a training starts from; seeds after the first draw untrained grafts again."""
    start = copied(network) if arm == "grafts" else remove(network)
    if seed != first_seed:
        redraw_grafts(start, seed)
    return start


def _finished_or_run(
    folder: Path,
    loop: Loop,
    start: Callable[[str, int], nn.Module],
    arm: str,
    seed: int,
    *,
    bypass: bool,
    progress: StepProgress,
) -> ArmResult:
    """Return the result of a training: the one of an earlier call, or a new one."""
    own = folder / f"seed-{seed}-{arm}"
    path = own / "result.json"
    if path.exists():
        return validated(ArmResult, read_json(path, ArtefactError), ArtefactError, str(path))
    progress(f"train {arm}, seed {seed}")
    own.mkdir(exist_ok=True)
    result = run_arm(start(arm, seed), arm, seed, own, loop, bypass=bypass)
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(asdict(result)) + "\n")
    return result


def _effects(network: nn.Module, results: Sequence[ArmResult], example: Example | None) -> tuple[GraftEffect, ...]:
    """Return what each graft costs, and what bypassing it costs on average over the seeds."""
    costs = {} if example is None else graft_costs(network, example)
    trained = [result for result in results if result.arm == "grafts"]
    effects = []
    for item in list_grafts(network):
        bypassed = [result.bypass_costs[item.place] for result in trained if item.place in result.bypass_costs]
        names = bypassed[0] if bypassed else ()
        effects.append(
            GraftEffect(
                item.place,
                parameters(item.block),
                costs[item.path].macs if item.path in costs else None,
                {name: fmean(cost[name] for cost in bypassed) for name in names},
                all(item.place not in result.unchanged for result in trained),
            )
        )
    return tuple(effects)


def _latency(network: nn.Module, example: Tensor) -> tuple[float, float]:
    """Return the median latency with grafts and without, in milliseconds."""
    with_grafts, without = latencies([copied(network), remove(network)], example)
    return 1000 * with_grafts.median, 1000 * without.median
