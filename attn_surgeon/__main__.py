"""Run the command line with `python -m attn_surgeon`."""

from attn_surgeon.cli import main

main()
