"""The command line: one file per verb. Nothing here is needed to use the library."""

from attn_surgeon.cli.app import main

__all__ = ["main"]
