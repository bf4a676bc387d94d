"""The errors a user can cause: what is wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SurgeonError(Exception):
    """Report a request that cannot be carried out: what is wrong, where, and a hint on the way on."""

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        return "; ".join(part for part in (self.what, self.where, self.hint) if part)


class SourceError(SurgeonError):
    """Report a network that cannot be built from its name or factory."""


class ExampleError(SurgeonError):
    """Report a network that does not run on its example."""


class WeightsError(SurgeonError):
    """Report weights that cannot be read or do not fit the network."""


class SelectorError(SurgeonError):
    """Report a selector that chooses nothing."""


class BlockError(SurgeonError):
    """Report an unknown block, an unknown option or a value out of range."""


class PlanError(SurgeonError):
    """Report a plan that cannot be carried out as a whole."""


class LostGraftError(SurgeonError):
    """Report grafts that do not run any more because of what other code did to their network."""


class ArtefactError(SurgeonError):
    """Report an artefact that is unreadable, damaged, or does not fit its base."""


class RecipeError(SurgeonError):
    """Report a recipe that does not validate."""


class DataError(SurgeonError):
    """Report images that cannot be found or read."""


class ImageError(DataError):
    """Report one image that cannot be read."""


class ExportError(SurgeonError):
    """Report a network that cannot be exported as it was asked for."""


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Name the closest valid names, as `did you mean a, b?`, or nothing where none is close."""
    close = get_close_matches(name, list(names), n=count, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else ""
