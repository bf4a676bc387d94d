"""The result of an export: the files, their comparisons with PyTorch, and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_surgeon.errors import SurgeonError
from attn_surgeon.export.parity import Parity

if TYPE_CHECKING:
    from attn_surgeon.export.benchmark import FileBenchmark
    from attn_surgeon.export.prepared import PreparedNetwork


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Args:
        path: its path.
        parities: the comparison with PyTorch, and further ones.
        facts: JSON values that describe it, such as its precision and its number of nodes.
    """

    path: Path
    parities: tuple[Parity, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parity(self) -> Parity:
        """The comparison with PyTorch."""
        return self.parities[0]

    @property
    def precision(self) -> str:
        """The precision of the weights."""
        return str(self.facts.get("precision", "fp32"))

    @property
    def nodes(self) -> int | None:
        """The number of nodes of an ONNX file; None for other formats."""
        return self.facts.get("nodes")

    def to_dict(self) -> dict[str, Any]:
        """Return the file as JSON values."""
        return {"output": str(self.path), **self.facts, "parity": [parity.to_dict() for parity in self.parities]}


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The result of an export.

    Args:
        prepared: the network as it was exported.
        files: the files that were written.
        measured: accuracy, size and latency, by precision.
        remarks: sentences for the user.
        details: further JSON values of the format.
        passed: whether further checks of the format passed.
        error: the error that prevented a later step, such as building an engine; the files are complete.
    """

    prepared: PreparedNetwork
    files: tuple[ExportedFile, ...]
    measured: tuple[FileBenchmark, ...] = ()
    remarks: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    passed: bool = True
    error: SurgeonError | None = None
