"""How a cell is judged: the output after the tool is the one before it, or somebody says aloud that it is not."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

import attn_surgeon
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.surgery.installed_grafts import list_grafts

from .host import Host, call
from .messages import brief, names_graft
from .networks import seeded
from .outputs import Outputs, distance, train, vector

Kind = Literal["kept", "refused", "warned", "LOST", "BROKE", "n/a"]


@dataclass(frozen=True)
class Verdict:
    """What became of the grafts.

    Kept, refused by name, lost with a warning that names them, lost in silence, or broken aloud with another's message.
    """

    kind: Kind
    note: str = ""

    @property
    def good(self) -> bool:
        return self.kind not in ("LOST", "BROKE")

    def __str__(self) -> str:
        return f"{self.kind} ({self.note})" if self.note else self.kind


class _SaidError(Exception):
    """A verdict that ends the judging of a cell."""

    def __init__(self, kind: Kind, note: str) -> None:
        self.verdict = Verdict(kind, note)


def judge(host: Host, side: str) -> Verdict:
    """Operate on a host's network, apply the tool and say what became of the grafts."""
    with warnings.catch_warnings(record=True) as heard, host.around():
        warnings.simplefilter("always")
        try:
            verdict = _Cell(host, host.placements.wish(side), host.example()).judge()
        except _SaidError as said:
            verdict = said.verdict
    named = [item.message for item in heard if isinstance(item.message, Warning) and names_graft(item.message)]
    if verdict.kind == "LOST" and named:
        return Verdict("warned", brief(named[0]))
    return verdict


@dataclass(frozen=True)
class _Cell:
    host: Host
    wish: dict[str, str]
    x: Any

    def judge(self) -> Verdict:
        control, network = self._control(), self._operated()
        count = len(list_grafts(network))
        outputs = Outputs.of(network, seeded(self.host.build), lambda model: self.host.expected(model, self.x))
        if not outputs.telling:
            raise ValueError(f"{self.host.name} at {self.wish}: the graft changes too little to be missed")
        if distance(control, outputs.plain) > 0.25 * outputs.effect:
            return Verdict("n/a", "gives another output without grafts too")
        result = _aloud("", lambda: self.host.apply(network, self.x))
        after = _aloud("next call: ", lambda: vector(_run(result, self.x)))
        if not self._same(after, control, outputs):
            return self._refused(result) or Verdict("LOST", outputs.describe(after, control))
        if isinstance(result, nn.Module) and any("attn_surgeon" in name for name, _ in result.named_parameters()):
            return Verdict("kept", self._aftermath(result, count, control, outputs))
        return Verdict("kept")

    def _allowed(self, control: Tensor, outputs: Outputs) -> float:
        """Say how far off an output may be: what the tool changes without grafts it may change threefold with them."""
        return self.host.tolerance * outputs.effect + 3 * distance(control, outputs.plain)

    def _same(self, after: Tensor, control: Tensor, outputs: Outputs) -> bool:
        """Say whether the output is the one before the tool, and not the tool's on the network without grafts."""
        near = distance(after, outputs.trained) <= self._allowed(control, outputs)
        return near and distance(after, control) > 0.5 * outputs.effect

    def _control(self) -> Tensor:
        """Apply the tool to the network without grafts; a tool that cannot work with this has nothing to lose."""
        try:
            return vector(_run(self.host.apply(seeded(self.host.build), self.x), self.x))
        except Exception as error:
            raise _SaidError("n/a", f"fails without grafts too: {brief(error)}") from error

    def _operated(self) -> nn.Module:
        plain = seeded(self.host.build)
        try:
            network = attn_surgeon.insert(plain, self.host.block, example=self.x, strict=True, **self.wish)  # type: ignore[arg-type]
        except attn_surgeon.SurgeonError as error:
            raise _SaidError("refused", f"insert: {brief(error)}") from error
        if network.training:
            raise _SaidError("LOST", "insert gives a network in train mode for one in eval mode")
        return train(network)

    def _refused(self, result: Any) -> Verdict | None:
        """Ask each of the package's functions whether it says of the graft that it does not run."""
        site = next(iter(self.wish.values()))
        asked = _functions(seeded(self.host.build), self.x).items() if isinstance(result, nn.Module) else ()
        answers = {name: _tried(partial(act, result)) for name, act in asked}
        said = {name: error for name, error in answers.items() if _refuses(error) and site in str(error)}
        return Verdict("refused", f"{', '.join(said)}: {brief(next(iter(said.values())))}") if said else None

    def _aftermath(self, result: nn.Module, count: int, control: Tensor, outputs: Outputs) -> str:
        """Require that what keeps its grafts is not saved without them, nor another network when they come off.

        The answer names the functions of the package that fail on such a network, aloud.
        """
        answers = {"save": _tried(lambda: _saved(result)), "check": _tried(lambda: _check(result, self.x))}
        if isinstance(saved := answers["save"], int) and saved != count:
            raise _SaidError("LOST", f"runs, but is saved with {saved} of {count} grafts")
        answers["remove"] = left = _tried(lambda: attn_surgeon.remove(result))
        if not isinstance(left, Exception):
            self._require_plain(left, control, outputs)
        said = {name: brief(error) for name, error in answers.items() if isinstance(error, Exception)}
        return "; ".join(f"{name}(): {error}" for name, error in said.items())

    def _require_plain(self, left: nn.Module, control: Tensor, outputs: Outputs) -> None:
        """Require of a network whose grafts were removed what the tool gives without them."""
        after = _aloud("after remove(): ", lambda: vector(_run(left, self.x)))
        if distance(after, control) > 10 * self._allowed(control, outputs):
            raise _SaidError("LOST", f"remove() leaves a network {outputs.describe(after, control)}")


def _run(result: Any, x: Any) -> Any:
    return call(result, x) if isinstance(result, nn.Module) else result(x)


def _aloud(when: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:
        raise _SaidError("refused" if names_graft(error) else "BROKE", when + brief(error)) from error


def _functions(plain: nn.Module, x: Any) -> dict[str, Callable[[nn.Module], Any]]:
    """List the functions that may notice."""
    return {
        "save": _saved,
        "remove": attn_surgeon.remove,
        "check": lambda model: _check(model, x),
        "certify": lambda model: _certify(plain, model, x),
    }


def _check(model: nn.Module, x: Any) -> None:
    if hasattr(attn_surgeon, "check"):
        attn_surgeon.check(model, x)


def _certify(plain: nn.Module, model: nn.Module, x: Any) -> None:
    certificate = attn_surgeon.certify(plain, model, x, expect_identity=False)
    for check in certificate.checks:
        if check.status == "failed" and "attn_surgeon" in check.detail:
            raise attn_surgeon.SurgeonError(f"{check.name}: {check.detail}")


def _saved(network: nn.Module) -> int:
    """Count the grafts in the file that `save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.safetensors"
        attn_surgeon.save(network, path)
        return len(read_artefact(path).grafts)


def _tried(act: Callable[[], Any]) -> Any:
    """Give what a function gives, or the error with which it says aloud that it cannot."""
    try:
        return act()
    except Exception as error:
        return error


def _refuses(answer: Any) -> bool:
    return isinstance(answer, Exception) and names_graft(answer)
