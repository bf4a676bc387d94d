"""Certify an operated network: bit-identical outputs, an unchanged state dict, trainable and removable grafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from attn_surgeon.errors import ArtefactError, ExampleError, SurgeonError, first_few, first_line
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.compared_tensors import Evidence, gather
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.gradient_check import Status, check_gradients
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.surgery.isolation import copied, isolates
from attn_surgeon.surgery.rewrite.operated_modules import original_class
from attn_surgeon.surgery.running import Example, enlarged, map_tensors, same_bits, tensors
from attn_surgeon.surgery.sites.example_sizes import other_sizes
from attn_surgeon.tables import Table
from attn_surgeon.validation import validated

RoundTrip = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Check:
    """The result of one check; `detail` says in words what was found."""

    name: str
    status: Status
    detail: str


MARKS: Mapping[Status, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}


@dataclass(frozen=True, repr=False)
class Certificate:
    """The results of all checks of an operated network; its representation is a table."""

    checks: tuple[Check, ...]
    torch: str = torch.__version__

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def table(self) -> Table:
        """The checks with their status and detail."""
        rows = tuple((MARKS[check.status], check.name, check.detail) for check in self.checks)
        return Table(f"certificate: {'passed' if self.passed else 'failed'}", ("", "check", "detail"), rows)

    def __repr__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table.html()

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain data."""
        return {
            "passed": self.passed,
            "torch": self.torch,
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a certificate from plain data."""
        stored = {name: value for name, value in data.items() if name != "passed"}  # computed from the checks
        return validated(cls, stored, ArtefactError, "certificate")


@isolates
def certify(
    original: nn.Module,
    model: nn.Module,
    example: Example,
    *,
    expect_identity: bool = True,
    round_trip: RoundTrip | None = None,
    progress: StepProgress = no_steps,
) -> Certificate:
    """Compare an operated network with its original and return the checks as a certificate; neither is changed.

    The output must be the original's bit for bit: in eval mode at two image sizes, in train mode with the same random
    number generator state, and in bfloat16. The original's state dict must be kept, every graft must run and be able to
    learn, and removing the grafts must restore the original. A check that does not apply is skipped.

    Args:
        original: the network before any graft.
        model: the network with grafts.
        example: one input that the networks take: a tensor, usually (N, C, H, W), a tuple of arguments, or a dict of
            keyword arguments.
        expect_identity: whether the grafts are the identity. Trained grafts, and those with the published
            initialisation, are not: they are bypassed where outputs are compared, so only the surgery is certified.
        round_trip: a function that saves a network and returns it loaded again; its output is then compared too.
        progress: called with the name of each check before it runs.

    Returns:
        The certificate; its `passed` is whether no check failed.

    Raises:
        ExampleError: the original does not run on the example.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> network, x = load_demo(), torch.randn(1, 1, 32, 32)
        >>> operated = attn_surgeon.insert(network, "se", after="layer3", example=x)
        >>> certificate = attn_surgeon.certify(network, operated, x)
        >>> certificate.passed
        True
        >>> [check.name for check in certificate.checks if "identity" in check.name][:2]
        ['identity in eval, 1×1×32×32', 'identity in eval, 1×1×64×64']
    """
    expected = _try_run(original, example)
    if isinstance(expected, Exception):
        what = f"the original does not run on the example: {first_line(expected)}"
        raise ExampleError(what, "", "pass an example that it accepts")
    case = _Case(original, model, example, expect_identity)
    steps: dict[str, Callable[[], Check]] = {
        "grafts": case.grafts_run,
        "eval": case.identity_in_eval,
        "other size": case.identity_at_other_size,
        "train": case.identity_in_train,
        "bfloat16": case.identity_in_bfloat16,
        "keys": case.keys_and_values,
        "gradients": case.alive,
        "remove": case.removable,
    }
    if round_trip is not None:
        steps["round trip"] = lambda: case.round_trip(round_trip)
    checks = []
    for name, step in steps.items():
        progress(name)
        checks.append(step())
    return Certificate(tuple(checks))


@dataclass(frozen=True)
class _Case:
    original: nn.Module
    model: nn.Module
    example: Example
    expect_identity: bool

    def grafts_run(self) -> Check:
        """Run the network once; every graft must run in it."""
        name = "every graft runs"
        try:
            grafts = check(self.model, self.example)
        except SurgeonError as error:
            return Check(name, "failed", str(error))
        return Check(name, "passed" if grafts else "skipped", f"{len(grafts)} of {len(grafts)} on the example")

    def identity_in_eval(self) -> Check:
        """Compare outputs in eval mode."""
        return self._same(f"identity in eval, {_size(self.example)}", self.original, self.model, self.example)

    def identity_at_other_size(self) -> Check:
        """Compare outputs at a second input size, where the network accepts one."""
        example = self._other_size()
        if example is None:
            return Check("identity at a second size", "skipped", "the network takes one input size")
        return self._same(f"identity in eval, {_size(example)}", self.original, self.model, example)

    def identity_in_train(self) -> Check:
        """Compare outputs, and BatchNorm statistics afterwards, in train mode with the same random generator state."""
        name = "identity in train"
        original, model = copied(self.original), copied(self.model)
        batch = enlarged(self.example, lambda x: x.flip(-1)) if _is_single(self.example) else self.example
        result = self._same(name, original, model, batch, training=True)
        if result.status != "passed":
            return result
        operated = model.state_dict()
        changed = [key for key, value in original.state_dict().items() if not same_bits(value, operated.get(key))]
        if changed:
            return Check(name, "failed", f"statistics differ afterwards: {first_few(changed)}")
        return Check(name, "passed", f"{result.detail}; statistics afterwards too")

    def identity_in_bfloat16(self) -> Check:
        """Compare outputs of both networks in bfloat16."""
        original, model = (copied(net).to(torch.bfloat16) for net in (self.original, self.model))
        other = self._other_size()  # the smaller one where there is one: bfloat16 is slow on CPUs
        example = map_tensors(self.example if other is None else other, _to_bfloat16)
        return self._same(f"identity in bfloat16, {_size(example)}", original, model, example)

    def keys_and_values(self) -> Check:
        """Compare the original's state dict with the same keys of the operated network's."""
        name = "keys and values kept"
        original, operated = self.original.state_dict(), self.model.state_dict()
        lost = [key for key in original if key not in operated]
        changed = [key for key in original if key in operated and not same_bits(original[key], operated[key])]
        if lost or changed:
            return Check(name, "failed", first_few(lost + changed))
        return Check(name, "passed", f"{len(original)} pretrained tensors, bit for bit")

    def alive(self) -> Check:
        """Take two SGD steps on the grafts alone; every parameter must change."""
        return Check("grafts can learn", *check_gradients(self.model, self.example))

    def removable(self) -> Check:
        """Remove the grafts from a copy; class, keys, values and output must be the original's."""
        name = "remove gives the original back"
        restored = copied(self.model)
        take_out(restored, lambda graft: True)
        before, after = self.original.state_dict(), restored.state_dict()
        if list(before) != list(after) or not same_bits(list(before.values()), list(after.values())):
            return Check(name, "failed", "keys or values differ")
        if _classes(self.original) != _classes(restored):
            return Check(name, "failed", "modules differ in class")
        result = _compare(name, self.original, restored, self.example)
        return result if result.status != "passed" else Check(name, "passed", "classes, keys, values and output")

    def round_trip(self, save_and_load: RoundTrip) -> Check:
        """Save and load the operated network; its output must be the same."""
        name = "save and load"
        try:
            loaded = save_and_load(self.model)
        except Exception as error:
            return Check(name, "failed", first_line(error))
        return _compare(name, self.model, loaded, self.example)

    def _same(
        self, name: str, original: nn.Module, model: nn.Module, example: Example, *, training: bool = False
    ) -> Check:
        with bypassed(() if self.expect_identity else [graft.block for graft in list_grafts(model)]):
            result = _compare(name, original, model, example, training=training)
        if self.expect_identity or result.status != "passed":
            return result
        return Check(name, "passed", f"{result.detail}, grafts bypassed")

    def _other_size(self) -> Example | None:
        """Return the example at a second size that the original accepts; None where it accepts only one."""
        for example in other_sizes(self.example):
            if not isinstance(_try_run(self.original, example), Exception):
                return example
        return None


def _compare(name: str, original: nn.Module, model: nn.Module, example: Example, *, training: bool = False) -> Check:
    expected = _try_run(original, example, training=training)
    if isinstance(expected, Exception):
        return Check(name, "skipped", f"the original raises an error here: {first_line(expected)}")
    actual = _try_run(model, example, training=training)
    if isinstance(actual, Exception):
        return Check(name, "failed", first_line(actual))
    if same_bits(expected.values, actual.values):
        return Check(name, "passed", f"{expected.description} bit for bit")
    repeated = None if training else _try_run(original, example)
    if isinstance(repeated, Evidence) and not same_bits(expected.values, repeated.values):
        return Check(name, "failed", "the original itself returns another output when run twice")
    return Check(name, "failed", f"outputs differ by up to {_largest_difference(expected.values, actual.values):.3g}")


def _try_run(model: nn.Module, example: Example, *, training: bool = False) -> Evidence | Exception:
    try:
        return gather(model, example, training=training)
    except Exception as error:  # a network may raise anything for an input that it does not accept
        return error


def _classes(model: nn.Module) -> list[tuple[str, type, type]]:
    return [(path, _class(type(module)), _class(original_class(module))) for path, module in model.named_modules()]


def _class(cls: type) -> type:
    """Return a class, or its base where torch.fx generated it for one GraphModule."""
    return cls.__bases__[0] if issubclass(cls, fx.GraphModule) and "forward" in vars(cls) else cls


def _is_single(example: Example) -> bool:
    """Return whether an example is a batch of one; BatchNorm needs two images in train mode."""
    return all(tensor.ndim > 0 and len(tensor) == 1 for tensor in tensors(example))


def _to_bfloat16(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor


def _size(example: Example) -> str:
    shapes: Iterator[str] = ("×".join(map(str, tensor.shape)) for tensor in tensors(example))
    return next(shapes, "no tensor")


def _largest_difference(first: Any, second: Any) -> float:
    pairs = zip(tensors(first), tensors(second), strict=False)
    return max(
        (float((a.double() - b.double()).abs().max()) for a, b in pairs if a.shape == b.shape and a.numel()),
        default=float("nan"),
    )
