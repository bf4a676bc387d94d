"""Raise KeyboardInterrupt on Ctrl-C, SIGTERM and SIGHUP, so that a command leaves no partial files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_SLOW_IMPORTS = ("numpy", "torch", "torchvision", "timm")
_RETRY_DELAY = 0.05  # seconds
_interrupted = [False]


@contextmanager
def raising_on_signals(before_exit: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt at a signal.

    Args:
        before_exit: called before the process exits at once, which it does while a library is being imported: a
            library whose import was interrupted would be used half initialised.
    """

    def interrupt(signum: int, frame: object) -> None:
        _interrupted[0] = True
        if any(_is_being_imported(name) for name in _SLOW_IMPORTS):
            before_exit()
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    def unraisable(args: Any) -> None:
        """Raise KeyboardInterrupt again where Python swallowed it, in a destructor or a callback."""
        if args.exc_type is not KeyboardInterrupt:
            hook(args)
        elif hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, _RETRY_DELAY)

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _interrupted[0] = False
    for number, handler in before.items():
        if number == signal.SIGINT or handler != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def was_interrupted() -> bool:
    """Whether a signal arrived, even if other code replaced its KeyboardInterrupt by another exception."""
    return _interrupted[0]


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))
