"""Entry point of the command line, also as `python -m attn_surgeon`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    for number in caught:
        signal.signal(number, _leave)
    from attn_surgeon.cli.app import main as run
    from attn_surgeon.memory import limit_to_machine

    limit_to_machine()
    try:
        run()
    finally:  # the work is done; a signal during Python's shutdown would print a traceback
        for number in caught:
            signal.signal(number, signal.SIG_IGN)


def _leave(signum: int, frame: object) -> None:
    """Exit at once: the command has not started, so nothing is half written."""
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
