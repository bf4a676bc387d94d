"""Train a network with grafts and its control in the caller's own training loop, and compare them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import fmean

from torch import Tensor, nn

from attn_surgeon.control.arms import ARMS, ArmResult, Evaluate, Loop, Train, code_text, run_arm
from attn_surgeon.control.comparison import Comparison, GraftEffect, compare_metrics, require_same_metrics
from attn_surgeon.control.folder import ComparisonFolder
from attn_surgeon.control.metrics import Values
from attn_surgeon.control.trained_grafts import named_grafts
from attn_surgeon.data.distributed import is_first
from attn_surgeon.errors import SettingsError, excerpt, first_line, nearest, option
from attn_surgeon.files import claimed
from attn_surgeon.measure.cost import Cost, graft_costs, parameters
from attn_surgeon.measure.latency import latencies
from attn_surgeon.operations.block_fitting import redraw_grafts
from attn_surgeon.operations.remove import remove
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.running import Example

_SEEDS = 2**32  # NumPy takes seeds below it


def compare(
    network: nn.Module,
    *,
    train: Train,
    evaluate: Evaluate,
    seeds: int | Sequence[int] = 3,
    out: str | Path = "runs/compare",
    example: Example | None = None,
    smaller_is_better: Collection[str] = (),
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
        train: is called as `train(network, seed, folder)`, with the network in train mode; trains it in place, or
            returns the trained one, such as an average of its weights. It may be wrapped, by `torch.compile` or in a
            LightningModule.
        evaluate: is called as `evaluate(network)`, with the network in eval mode; returns a number, or numbers by name.
            A sequence of numbers instead of one are the values of single validation images, always the same images in
            the same order: the number is their mean, and the interval is over images too.
        seeds: the number of training runs of each, with seeds 0, 1, …; or the seeds themselves.
        out: the folder of the results.
        example: one input of the network, usually (N, C, H, W), to measure what the grafts cost; without it they are
            not measured.
        smaller_is_better: the names of the metrics of which smaller values are better, such as `("loss",)`; `score` is
            the name of a number that is returned without one.
        bypass: evaluate each trained network once more for each graft, with that graft alone bypassed: with 50 grafts
            50 evaluations for each seed.
        progress: is called with a line about what begins.

    Returns:
        the comparison; printed it is a table and one sentence for each metric. `comparison.json` in the folder is
        the same as plain data, and `comparison.png` as a picture where Matplotlib is installed.

    Raises:
        LostGraftError: the trained network has lost grafts, or they do not run when it is evaluated.
        TrainingError: no graft has changed in training, or what was returned is not a network or not a number.
        ExampleError: the network does not run on the example.
        SettingsError: the network has no grafts or cannot be copied, there are no seeds, no metric has a name in
            `smaller_is_better`, `train` does not take the three arguments, or the folder has a finished comparison, one
            of another network or loop, or something else.
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
        network,
        loop,
        seeds=seeds,
        folder=Path(out),
        example=example,
        smaller_is_better=smaller_is_better,
        bypass=bypass,
        progress=progress,
    )


def run_comparison(
    network: nn.Module,
    loop: Loop,
    *,
    seeds: int | Sequence[int],
    folder: Path,
    example: Example | None,
    smaller_is_better: Collection[str],
    bypass: bool,
    progress: StepProgress,
) -> Comparison:
    """Carry out `compare` with a loop that may run in other processes."""
    chosen = _seeds(seeds)
    untrained = _copy(network)
    if example is not None:
        check(untrained, example)
    costs = {} if example is None else graft_costs(network, example)
    latency = _latency(network, example) if isinstance(example, Tensor) else None
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder) if is_first() else nullcontext():
        own = ComparisonFolder.opened(folder, network, loop, progress)
        bypassed = len(list_grafts(network)) if bypass else 0
        progress(f"{2 * len(chosen)} training runs, {1 + (2 + bypassed) * len(chosen)} evaluations")
        before = own.before or _before(own, loop, untrained, progress)
        smaller = _known(smaller_is_better, before)
        results = [
            own.finished.get((arm, seed))
            or _run(own, loop, partial(_start, network, arm, seed, chosen[0]), (arm, seed), before, progress, bypass)
            for seed in chosen
            for arm in ARMS
        ]
        metrics = compare_metrics(before, results, smaller)
        effects = _effects(network, results, costs, smaller)
        comparison = Comparison(str(folder), chosen, metrics, effects, latency)
        own.write_comparison(comparison)
    return comparison


def _require_arguments(train: Train) -> None:
    """Raise SettingsError where `train` cannot be called with a network, a seed and a folder."""
    try:
        inspect.signature(train).bind(None, 0, Path())
    except TypeError as error:
        raise SettingsError(f"train cannot be called: {error}", "train", "take (network, seed, folder)") from None
    except ValueError:  # some callables of C have no signature
        pass


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    try:
        chosen = tuple(map(int, range(seeds) if isinstance(seeds, int) else seeds))
    except (TypeError, ValueError):
        chosen = ()
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= seed < _SEEDS for seed in chosen):
        hint = f"give their number, or different integers from 0 to {_SEEDS - 1:,}"
        raise SettingsError(f"invalid seeds: {excerpt(seeds)}", "seeds", hint)
    return chosen


def _copy(network: nn.Module) -> nn.Module:
    """Return a copy of the network; raise SettingsError where it has no grafts or cannot be copied."""
    if not list_grafts(network):
        raise SettingsError("the network has no grafts to compare", "network", "insert some first")
    if any(tensor.is_meta for tensor in network.state_dict().values() if isinstance(tensor, Tensor)):
        what = "the network has no values: it is on the meta device"
        raise SettingsError(what, "network", "call its to_empty, and load its weights")
    try:
        return copied(network)
    except Exception as error:
        what = f"the network cannot be copied: {first_line(error)}"
        raise SettingsError(what, "network", "it needs to work with copy.deepcopy") from error


def _before(folder: ComparisonFolder, loop: Loop, untrained: nn.Module, progress: StepProgress) -> Values:
    progress("evaluate before training")
    before = loop.metrics(untrained)
    folder.write_before(before)
    return before


def _known(smaller_is_better: Collection[str], metrics: Collection[str]) -> frozenset[str]:
    names = [smaller_is_better] if isinstance(smaller_is_better, str) else smaller_is_better
    for name in names:
        if name not in metrics:
            hint = nearest(name, metrics) or f"evaluate returned {', '.join(metrics)}"
            raise SettingsError(f"no metric is named {name}", option("smaller_is_better"), hint)
    return frozenset(names)


def _start(network: nn.Module, arm: str, seed: int, first_seed: int) -> nn.Module:
    """Return the network that a training starts from; seeds after the first draw untrained grafts again."""
    start = copied(network) if arm == "grafts" else remove(network)
    if seed != first_seed:
        redraw_grafts(start, seed)
    return start


def _run(
    folder: ComparisonFolder,
    loop: Loop,
    start: Callable[[], nn.Module],
    run: tuple[str, int],
    before: Values,
    progress: StepProgress,
    bypass: bool,
) -> ArmResult:
    """Train one network (arm, seed), and write the result once there is one, and after each graft that was bypassed."""
    arm, seed = run
    progress(f"train {arm}, seed {seed}")
    for result in run_arm(start(), arm, seed, folder.of(arm, seed), loop, progress, bypass=bypass):
        require_same_metrics(before, result)
        folder.write_result(result)
    return result


def _effects(
    network: nn.Module, results: Iterable[ArmResult], costs: Mapping[str, Cost], smaller_is_better: Collection[str]
) -> tuple[GraftEffect, ...]:
    """Return what each graft costs, and what bypassing it costs on average over the seeds."""
    trained = [result for result in results if result.arm == "grafts"]
    effects = []
    for item in named_grafts(network):
        by_seed = [result.bypass_costs.get(item.name, {}) for result in trained]
        lost = {
            name: (-1 if name in smaller_is_better else 1) * fmean(cost[name] for cost in by_seed if name in cost)
            for name in dict.fromkeys(name for cost in by_seed for name in cost)
        }
        block, path = item.graft.block, item.graft.path
        macs = costs[path].macs if path in costs else None
        changed = all(item.name not in result.unchanged for result in trained)
        effects.append(GraftEffect(item.name, parameters(block), macs, lost, changed))
    return tuple(effects)


def _latency(network: nn.Module, example: Tensor) -> tuple[float, float]:
    """Return the median latency with grafts and without, in milliseconds."""
    with_grafts, without = latencies([copied(network), remove(network)], example)
    return 1000 * with_grafts.median, 1000 * without.median
