"""The errors a user can cause: what is wrong, where, and what to do next.

The same error reaches callers of two kinds. Its texts name options and functions by `option` and `function`, and are
rendered for the caller: `layout='tokens'` and `attn_surgeon.find_sites(network, example)` in Python,
`--layout tokens` and `attn-surgeon inspect NETWORK` on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST_LINE = 290  # characters of an error, before which the command line puts "error: "
_SHORTEST_PART = 60
_MOST_BITS = 4096
_LONGEST_NAME = 200
_REFERENCE = re.compile("\x00(.*?)\x01(.*?)\x02", re.DOTALL)


def option(name: str, value: object = "") -> str:
    """Return a reference to an option for an error's text: `name=value` in Python, `--name value` on the command line.

    Args:
        name: the option's name in Python, such as `graft_lr_mult`.
        value: the value to show, if any; `True` stands for a flag that takes none.
    """
    in_python = f"{name}={value}" if value != "" else name
    dashes = f"--{name.rstrip('_').replace('_', '-')}"
    return either(in_python, dashes if value in ("", True) else f"{dashes} {value}")


def function(in_python: str, command: str) -> str:
    """Return a reference to what a caller can run next, by its name in Python and as a command.

    >>> str(SurgeonError("no site", "", f"list them: {function('find_sites(network, x)', 'inspect NETWORK')}"))
    'no site; list them: attn_surgeon.find_sites(network, x)'
    """
    return either(f"attn_surgeon.{in_python}", f"attn-surgeon {command}")


def either(in_python: str, on_command_line: str) -> str:
    """Return a text that reads otherwise in Python and on the command line."""
    return f"\x00{in_python}\x01{on_command_line}\x02"


def for_python(text: str) -> str:
    """Return a text with its references as a Python caller writes them."""
    return _REFERENCE.sub(r"\1", text)


def for_command_line(text: str) -> str:
    """Return a text with its references as they are typed on the command line."""
    return _REFERENCE.sub(r"\2", text)


class SurgeonError(Exception):
    """Report a request that cannot be carried out.

    Args:
        what: what is wrong.
        where: the file, site or option that it is about.
        hint: the nearest valid name, or what to do next.
    """

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        return "; ".join(part for part in fitted(*map(for_python, (self.what, self.where, self.hint))) if part)

    @property
    def option(self) -> str | None:
        """The option that the error is about, by its name in Python, or None."""
        found = _REFERENCE.fullmatch(self.where)
        return found[1].partition("=")[0] if found and found[2].startswith("--") else None


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


class OtherCallError(SurgeonError, ValueError):
    """Report a forward that is called in another way than it was rewritten for."""


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


class SettingsError(SurgeonError):
    """Report a setting that is unknown or whose value is invalid."""


class TrainingError(SurgeonError):
    """Report a fine-tune that cannot start, or that had to stop."""


class ExportError(SurgeonError):
    """Report a network that cannot be exported as it was asked for."""


class MemoryLimitError(SurgeonError):
    """Report a request that needs more memory than the machine has."""


class BusyError(SurgeonError):
    """Report a file or folder that another process is writing."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def excerpt(value: object, most: int = 80) -> str:
    """Return a value as text for an error: the start and the end of what is long.

    >>> excerpt("9" * 5000, 20)
    '999999999999 … 99999'
    """
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # which Python does not write in decimals
        value = hex(value)
    text = " ".join(str(value).split())
    end = most // 4
    return text if len(text) <= most else f"{text[: most - end - 3]} … {text[-end:]}"


def fitted(*parts: str) -> tuple[str, ...]:
    """Return the parts of an error in one line each, shortened so that all fit in one short line.

    The last, what to do next, is the last to be shortened.

    >>> [len(part) for part in fitted("x" * 500, "y" * 150, "z" * 100)]
    [60, 126, 100]
    """
    lines = [printable(" ".join(part.split())) for part in parts]
    for number, line in enumerate(lines):
        excess = len("; ".join(lines)) - LONGEST_LINE
        if excess > 0 and len(line) > _SHORTEST_PART:
            lines[number] = excerpt(line, max(_SHORTEST_PART, len(line) - excess))
    return tuple(lines)


def printable(text: str) -> str:
    """Return a text with escapes for what a terminal would act on, such as control characters in a file's names."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return the closest valid names as `did you mean a, b?`, or an empty text where none is close."""
    close = get_close_matches(name[:_LONGEST_NAME], list(names), n=count, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else ""


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names as `a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
