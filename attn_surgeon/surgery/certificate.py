"""The certificate of a surgery: the network is the same, its grafts can learn, and they can be removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from attn_surgeon.errors import ArtefactError, ExampleError, SurgeonError, first_few, first_line
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.check import check
from attn_surgeon.surgery.evidence import Evidence, gather
from attn_surgeon.surgery.gradient_check import Status, check_gradients
from attn_surgeon.surgery.installed import bypassed, list_grafts
from attn_surgeon.surgery.isolation import copied, isolates
from attn_surgeon.surgery.perform import take_out
from attn_surgeon.surgery.rewrite.operated import original_class
from attn_surgeon.surgery.running import Example, enlarged, map_tensors, same_bits, tensors
from attn_surgeon.surgery.sites.sizes import other_sizes
from attn_surgeon.tables import Table
from attn_surgeon.validation import validated

RoundTrip = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Check:
    """One check, its status, and what was seen."""

    name: str
    status: Status
    detail: str


MARKS: Mapping[Status, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}


@dataclass(frozen=True, repr=False)
class Certificate:
    """All checks of one operated network; shown as a table."""

    checks: tuple[Check, ...]
    torch: str = torch.__version__

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def table(self) -> Table:
        """The checks with their status and what was seen."""
        rows = tuple((MARKS[check.status], check.name, check.detail) for check in self.checks)
        return Table(f"certificate: {'passed' if self.passed else 'failed'}", ("", "check", "seen"), rows)

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
        stored = {name: value for name, value in data.items() if name != "passed"}  # which the checks tell
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
    """Check an operated network against its original, and return the checks as a certificate; neither is changed.

    The output must be the original's bit for bit: in eval mode at two image sizes, in train mode with the same random
    draws, and in bfloat16. The original's state dict must be kept, every graft must run and be able to learn, and
    removing the grafts must give the original back. A check that does not apply is skipped.

    Args:
        original: the network before any graft.
        model: the network with grafts.
        example: one input that the networks take: a tensor, usually (N, C, H, W), a tuple of arguments, or a dict of
            keyword arguments.
        expect_identity: whether the grafts are the identity. Of those that are not, because they were trained or
            started as published, only the surgery is certified: they are bypassed where outputs are compared.
        round_trip: a function that saves a network and returns it loaded again, to check that too.
        progress: called with the name of each check before it is made.

    Returns:
        The certificate, which is shown as a table; `passed` is whether no check failed.

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
        raise ExampleError(f"the original does not run on the example: {first_line(expected)}", "", "give one it takes")
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
            made = check(self.model, self.example)
        except SurgeonError as error:
            return Check(name, "failed", str(error))
        return Check(name, "passed" if made else "skipped", f"{len(made)} of {len(made)} on the example")

    def identity_in_eval(self) -> Check:
        """Compare outputs in eval mode."""
        return self._same(f"identity in eval, {_size(self.example)}", self.original, self.model, self.example)

    def identity_at_other_size(self) -> Check:
        """Compare outputs at a second input size, where the network takes one."""
        smaller = self._other_size()
        if smaller is None:
            return Check("identity at a second size", "skipped", "the network takes one input size")
        return self._same(f"identity in eval, {_size(smaller)}", self.original, self.model, smaller)

    def identity_in_train(self) -> Check:
        """Compare outputs, and BatchNorm statistics afterwards, in train mode with the same random draws."""
        name = "identity in train"
        original, model = copied(self.original), copied(self.model)
        batch = enlarged(self.example, lambda x: x.flip(-1)) if _is_single(self.example) else self.example
        outcome = self._same(name, original, model, batch, training=True)
        if outcome.status != "passed":
            return outcome
        theirs = model.state_dict()
        changed = [key for key, value in original.state_dict().items() if not same_bits(value, theirs.get(key))]
        if changed:
            return Check(name, "failed", f"statistics differ afterwards: {first_few(changed)}")
        return Check(name, "passed", f"{outcome.detail}; statistics afterwards too")

    def identity_in_bfloat16(self) -> Check:
        """Compare outputs of both networks in bfloat16."""
        original, model = (copied(net).to(torch.bfloat16) for net in (self.original, self.model))
        smaller = self._other_size()
        example = map_tensors(self.example if smaller is None else smaller, _to_bfloat16)
        return self._same(f"identity in bfloat16, {_size(example)}", original, model, example)

    def keys_and_values(self) -> Check:
        """Compare the original's state dict with the same keys of the operated network's."""
        theirs = self.model.state_dict()
        mine = self.original.state_dict()
        lost = [key for key in mine if key not in theirs]
        changed = [key for key in mine if key in theirs and not same_bits(mine[key], theirs[key])]
        if lost or changed:
            return Check("keys and values kept", "failed", f"{first_few(lost + changed)}")
        return Check("keys and values kept", "passed", f"{len(mine)} pretrained tensors, bit for bit")

    def alive(self) -> Check:
        """Take two SGD steps on the grafts alone; every parameter must move."""
        return Check("grafts can learn", *check_gradients(self.model, self.example))

    def removable(self) -> Check:
        """Take the grafts out; class, keys, values and output must be the original's."""
        name = "remove gives the original back"
        restored = copied(self.model)
        take_out(restored, lambda graft: True)
        mine, theirs = self.original.state_dict(), restored.state_dict()
        if list(mine) != list(theirs) or not same_bits(list(mine.values()), list(theirs.values())):
            return Check(name, "failed", "keys or values differ")
        if _classes(self.original) != _classes(restored):
            return Check(name, "failed", "modules differ in class")
        outcome = _compare(name, self.original, restored, self.example)
        return outcome if outcome.status != "passed" else Check(name, "passed", "classes, keys, values and output")

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
        with bypassed(() if self.expect_identity else [made.block for made in list_grafts(model)]):
            outcome = _compare(name, original, model, example, training=training)
        if self.expect_identity or outcome.status != "passed":
            return outcome
        return Check(name, "passed", f"{outcome.detail}, grafts bypassed")

    def _other_size(self) -> Example | None:
        """Return the example at a second size that the original takes; None where it takes one only."""
        for example in other_sizes(self.example):
            if not isinstance(_try_run(self.original, example), Exception):
                return example
        return None


def _compare(name: str, original: nn.Module, model: nn.Module, example: Example, *, training: bool = False) -> Check:
    expected = _try_run(original, example, training=training)
    if isinstance(expected, Exception):
        return Check(name, "skipped", f"the original does not run so: {first_line(expected)}")
    got = _try_run(model, example, training=training)
    if isinstance(got, Exception):
        return Check(name, "failed", first_line(got))
    if same_bits(expected.values, got.values):
        return Check(name, "passed", f"{expected.what} bit for bit")
    again = None if training else _try_run(original, example)
    if isinstance(again, Evidence) and not same_bits(expected.values, again.values):
        return Check(name, "failed", "the original itself gives another output when run twice")
    return Check(name, "failed", f"outputs differ by up to {_largest_difference(expected.values, got.values):.3g}")


def _try_run(model: nn.Module, example: Example, *, training: bool = False) -> Evidence | Exception:
    try:
        return gather(model, example, training=training)
    except Exception as error:  # a network raises whatever it likes for an input that it does not take
        return error


def _classes(model: nn.Module) -> list[tuple[str, type, type]]:
    return [(path, _class(type(module)), _class(original_class(module))) for path, module in model.named_modules()]


def _class(cls: type) -> type:
    """Return a class, for those that torch.fx makes for one object the one that they are made of."""
    return cls.__bases__[0] if issubclass(cls, fx.GraphModule) and "forward" in vars(cls) else cls


def _is_single(example: Example) -> bool:
    """Return whether an example is a batch of one: BatchNorm needs two in train mode."""
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
