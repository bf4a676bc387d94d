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
_HEAVY = ("numpy", "torch", "torchvision", "timm")
_AGAIN = 0.05  # seconds
_interrupted = [False]


@contextmanager
def raising_on_signals(leave: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt at a signal.

    Args:
        leave: what to do before the process ends at once, where a library is being imported: it would go on half made.
    """

    def interrupt(signum: int, frame: object) -> None:
        _interrupted[0] = True
        if any(_is_loading(name) for name in _HEAVY):
            leave()
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    def unraisable(args: Any) -> None:
        """Raise an interrupt again that came in a destructor or a callback, from which Python lets none out."""
        if args.exc_type is not KeyboardInterrupt:
            hook(args)
        elif hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)

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
    """Whether there was a signal, also where other code has made another error of it."""
    return _interrupted[0]


def _is_loading(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))
