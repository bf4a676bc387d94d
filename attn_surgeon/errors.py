"""Errors a user can cause: what is wrong, where, and what to do next.

Messages refer to options and functions by `option` and `function`, which are rendered for the reader: `layout=tokens`
and `attn_surgeon.find_sites(network, example)` in Python, `--layout tokens` and `attn-surgeon inspect NETWORK` on the
command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST_LINE = 290  # characters; with the command line's "error: " in front, a message stays below 300
_SHORTEST_PART = 60
_MOST_BITS = 4096  # Python refuses to convert much larger integers to decimal
_LONGEST_NAME = 200
_PLACE_IN_CPP = re.compile(r"^operator\(\), \S+:\d+, ")
_REFERENCE = re.compile("\x00(.*?)\x01(.*?)\x02", re.DOTALL)


def option(name: str, value: object = "") -> str:
    """Return a reference to an option for a message: `name=value` in Python, `--name value` on the command line.

    Args:
        name: the option's name in Python, such as `graft_lr_mult`.
        value: the value to show, if any; `True` for a flag, which takes no value.
    """
    in_python = f"{name}={value}" if value != "" else name
    dashes = f"--{name.rstrip('_').replace('_', '-')}"
    return either(in_python, dashes if value in ("", True) else f"{dashes} {value}")


def function(in_python: str, command: str) -> str:
    """Return a reference, for a message, to a function and to the command that does the same.

    >>> str(SurgeonError("no site", "", f"list them: {function('find_sites(network, x)', 'inspect NETWORK')}"))
    'no site; list them: attn_surgeon.find_sites(network, x)'
    """
    return either(f"attn_surgeon.{in_python}", f"attn-surgeon {command}")


def either(in_python: str, on_command_line: str) -> str:
    """Return a text that is rendered differently in Python and on the command line."""
    return f"\x00{in_python}\x01{on_command_line}\x02"


def for_python(text: str) -> str:
    """Return a message with its references rendered for Python."""
    return _REFERENCE.sub(r"\1", text)


def for_command_line(text: str) -> str:
    """Return a message with its references rendered for the command line."""
    return _REFERENCE.sub(r"\2", text)


class SurgeonError(Exception):
    """Base class of the errors that a user can cause.

    Args:
        what: what is wrong.
        where: the file, site or option with the problem.
        hint: the nearest valid name, or what to do next.
    """

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        return "; ".join(part for part in fitted(*map(for_python, (self.what, self.where, self.hint))) if part)

    @property
    def option(self) -> str | None:
        """The Python name of the option with the problem, or None."""
        match = _REFERENCE.fullmatch(self.where)
        return match[1].partition("=")[0] if match and match[2].startswith("--") else None


ErrorType = type[SurgeonError]


class SourceError(SurgeonError):
    """Report a network that cannot be built from its name or factory."""


class ExampleError(SurgeonError):
    """Report a network that does not run on its example input."""


class WeightsError(SurgeonError):
    """Report weights that cannot be read or do not fit the network."""


class SelectorError(SurgeonError):
    """Report a selector that matches no site."""


class BlockError(SurgeonError):
    """Report an unknown block, an unknown option or a value out of range."""


class KeywordError(SurgeonError, TypeError):
    """Report a keyword that a function does not take."""


class PlanError(SurgeonError):
    """Report a plan of which not every graft can be inserted."""


class OtherCallError(SurgeonError, ValueError):
    """Report a call of a rewritten forward that takes another path than the one it was rewritten for."""


class LostGraftError(SurgeonError):
    """Report grafts that no longer run, because other code changed their network."""


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
    """Report fine-tuning that cannot start or had to stop."""


class ExportError(SurgeonError):
    """Report a network that cannot be exported as requested."""


class MemoryLimitError(SurgeonError):
    """Report a request that needs more memory than the machine has."""


class BusyError(SurgeonError):
    """Report a file or folder that another process is writing."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if there is no message.

    A place in C++ code at its beginning is left out.

    >>> first_line(RuntimeError('operator(), /src/nms.cpp:122, "nms" not implemented'))
    '"nms" not implemented'
    """
    return _PLACE_IN_CPP.sub("", str(error).strip().partition("\n")[0]) or type(error).__name__


def excerpt(value: object, most: int = 80) -> str:
    """Return a value as text for an error, with the middle of long texts left out.

    >>> excerpt("9" * 5000, 20)
    '999999999999 … 99999'
    """
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        value = hex(value)
    text = " ".join(str(value).split())
    end = most // 4
    return text if len(text) <= most else f"{text[: most - end - 3]} … {text[-end:]}"


def fitted(*parts: str) -> tuple[str, ...]:
    """Return the parts of an error message, each on one line, shortened so that together they fit `LONGEST_LINE`.

    Earlier parts are shortened first, so that the last one, what to do next, stays readable.

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
    """Return a text with control characters escaped, for example those in a file name."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return the closest valid names as `did you mean a, b?`, or an empty text if none is close."""
    close = get_close_matches(name[:_LONGEST_NAME], list(names), n=count, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else ""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural with an s unless the number is 1.

    >>> counted(1, "graft"), counted(1500, "graft")
    ('1 graft', '1,500 grafts')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names as `a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
