"""How a cell is judged: the output after the tool is the one before it, or somebody says aloud that it is not."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import attn_surgeon
from attn_surgeon.artefact import read_artefact
from attn_surgeon.errors import first_line
from attn_surgeon.graph.running import tensors
from attn_surgeon.graph.surgery import list_grafts

from .host import Host, call
from .networks import seeded

Kind = Literal["kept", "refused", "LOST", "BROKE", "n/a"]


@dataclass(frozen=True)
class Verdict:
    """What became of the grafts: kept, refused by name, lost in silence, or broken aloud with another's message."""

    kind: Kind
    note: str = ""

    @property
    def good(self) -> bool:
        return self.kind not in ("LOST", "BROKE")

    def __str__(self) -> str:
        return f"{self.kind} ({self.note})" if self.note else self.kind


class _Said(Exception):  # noqa: N818
    """A verdict that ends the judging of a cell."""

    def __init__(self, kind: Kind, note: str) -> None:
        self.verdict = Verdict(kind, note)


@dataclass(frozen=True)
class Outputs:
    """What the network gives before the tool: with grafts, with each graft run twice, and without any."""

    trained: Tensor
    twice: Tensor
    plain: Tensor

    @property
    def effect(self) -> float:
        return distance(self.trained, self.plain)


@dataclass
class Cell:
    """One host at one placement."""

    host: Host
    side: str
    x: Any = field(init=False)

    def judge(self) -> Verdict:
        """Operate, apply the tool and say what became of the grafts."""
        with warnings.catch_warnings(), self.host.around():
            warnings.simplefilter("ignore")
            self.x = self.host.example()
            try:
                return self._judge()
            except _Said as said:
                return said.verdict

    def _judge(self) -> Verdict:
        host = self.host
        control = self._control()
        network = self._operated()
        outputs, count = self._outputs(network), len(list_grafts(network))
        result = self._aloud("", lambda: host.apply(network, self.x))
        after = self._aloud("next call", lambda: vector(_run(result, self.x)))
        error = distance(after, outputs.trained) / outputs.effect
        if error > host.tolerance or distance(after, control) < 0.5 * outputs.effect:
            site = next(iter(host.placements.wish(self.side).values()))
            return _refused_later(result, site) or Verdict("LOST", _what(after, outputs, control, error))
        return self._aftermath(result, count) or Verdict("kept", f"to {error:.0e} of the effect" * (error > 1e-3))

    def _control(self) -> Tensor:
        """Apply the tool to the network without grafts; a tool that cannot work with this has nothing to lose."""
        try:
            return vector(_run(self.host.apply(seeded(self.host.build), self.x), self.x))
        except Exception as error:
            raise _Said("n/a", f"fails without grafts too: {brief(error)}") from error

    def _operated(self) -> nn.Module:
        plain, wish = seeded(self.host.build), self.host.placements.wish(self.side)
        try:
            network = attn_surgeon.insert(plain, self.host.block, example=self.x, strict=True, **wish)  # type: ignore[arg-type]
        except attn_surgeon.SurgeonError as error:
            raise _Said("refused", f"insert: {brief(error)}") from error
        return train(network)

    def _outputs(self, network: nn.Module) -> Outputs:
        trained = vector(self.host.expected(network, self.x))
        with doubled(network):
            twice = vector(self.host.expected(network, self.x))
        outputs = Outputs(trained, twice, vector(self.host.expected(seeded(self.host.build), self.x)))
        if not outputs.effect > 1e-3 * float(outputs.plain.abs().max()):
            raise ValueError(f"{self.host.name}, {self.side}: the graft changes too little to be missed")
        return outputs

    def _aloud(self, when: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:
            kind: Kind = "refused" if names_graft(error) else "BROKE"
            raise _Said(kind, ": ".join(part for part in (when, brief(error)) if part)) from error

    def _aftermath(self, result: Any, count: int) -> Verdict | None:
        """Require that what still computes with its grafts is not saved without them."""
        if not isinstance(result, nn.Module) or not any("attn_surgeon" in name for name in _keys(result)):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "saved.safetensors"
            try:
                attn_surgeon.save(result, path)
            except Exception:
                return None
            saved = len(read_artefact(path).grafts)
        return None if saved == count else Verdict("LOST", f"runs, but saved with {saved} of {count} grafts")


def judge(host: Host, side: str) -> Verdict:
    """Judge one cell."""
    return Cell(host, side).judge()


def _run(result: Any, x: Any) -> Any:
    return call(result, x) if isinstance(result, nn.Module) else result(x)


def _keys(module: nn.Module) -> Iterator[str]:
    return (name for name, _ in module.named_parameters())


def vector(output: Any) -> Tensor:
    """Give everything of an output that is a number as one vector."""
    found = [value.detach().float().flatten() for value in tensors(output) if value.is_floating_point()]
    return torch.cat(found) if found else torch.empty(0)


def distance(one: Tensor, other: Tensor) -> float:
    """Give the largest difference; outputs of different sizes are infinitely far apart."""
    if one.shape != other.shape or not len(one):
        return float("inf")
    value = float((one - other).abs().max())
    return value if value == value else float("inf")


@torch.no_grad()
def train(network: nn.Module) -> nn.Module:
    """Give grafts other parameters, as training would, the same each time."""
    generator = torch.Generator().manual_seed(2)
    for made in list_grafts(network):
        for parameter in made.block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


@contextmanager
def doubled(network: nn.Module) -> Iterator[None]:
    """Let every graft work twice on what it is given."""
    with ExitStack() as stack:
        for made in list_grafts(network):
            forward = made.block.forward
            vars(made.block)["forward"] = lambda x, *rest, _f=forward: _f(_f(x, *rest), *rest)
            stack.callback(vars(made.block).pop, "forward")
        yield


def names_graft(error: BaseException) -> bool:
    """Say whether an error tells its reader that it is about a graft or this package."""
    chain, link = [str(error)], error.__cause__
    while link is not None:
        chain.append(str(link))
        link = link.__cause__
    return isinstance(error, attn_surgeon.SurgeonError) or re.search(r"graft|attn.surgeon", " ".join(chain)) is not None


def brief(error: BaseException) -> str:
    """Give the start of an error's first line."""
    line = first_line(error)
    return line if len(line) <= 100 else f"{line[:99]}…"


def _what(after: Tensor, outputs: Outputs, control: Tensor, error: float) -> str:
    near = 0.05 * outputs.effect
    if min(distance(after, outputs.plain), distance(after, control)) <= near:
        return "as without grafts"
    if distance(after, outputs.twice) <= near:
        return "grafts run twice"
    return f"another output, off by {error:.2g} of the effect"


def _refused_later(result: Any, site: str) -> Verdict | None:
    """Ask each of the package's functions whether it says of the graft at a site that it does not run."""
    if not isinstance(result, nn.Module):
        return None
    said = {name: text for name, act in _functions().items() if site in (text := _error(act, result))}
    return Verdict("refused", f"{', '.join(said)}: {next(iter(said.values()))}") if said else None


def _functions() -> dict[str, Callable[[nn.Module], Any]]:
    return {"save": _save, "remove": attn_surgeon.remove}


def _save(network: nn.Module) -> None:
    with tempfile.TemporaryDirectory() as folder:
        attn_surgeon.save(network, Path(folder) / "saved.safetensors")


def _error(act: Callable[[nn.Module], Any], network: nn.Module) -> str:
    try:
        act(network)
    except Exception as error:
        return str(error) if names_graft(error) else ""
    return ""
