"""The command line's entry, also as `python -m attn_surgeon`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    from attn_surgeon.cli.app import main as run
    from attn_surgeon.memory import limit_to_machine

    limit_to_machine()
    run()


def _leave(signum: int, frame: object) -> None:
    """End before there is anything that could be left half done."""
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
