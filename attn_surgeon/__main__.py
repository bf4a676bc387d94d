"""The command line's entry, also as `python -m attn_surgeon`."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from attn_surgeon.cli.app import main as run
    except KeyboardInterrupt:  # before there is anything that could handle it
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
