"""The application: its commands, its exit codes, and how errors are printed.

Exit codes: 0 success, 1 a check failed, 2 an error of the user, 3 a bug of attn-surgeon, 130 interrupted.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import typer

from attn_surgeon import __version__
from attn_surgeon.cli import (
    bench_blocks,
    blocks,
    compare,
    diff,
    evaluate,
    insert,
    inspect,
    profile,
    prune,
    remove,
    run,
    scout,
    verify,
)
from attn_surgeon.cli.export import command as export
from attn_surgeon.cli.files import release_claims
from attn_surgeon.cli.finetune import command as finetune
from attn_surgeon.cli.output import Verbosity, print_error, set_verbosity
from attn_surgeon.cli.signals import INTERRUPTED, raising_on_signals, was_interrupted
from attn_surgeon.errors import SurgeonError, first_line
from attn_surgeon.memory import is_out_of_memory

# Typer brings click in its own package or uses the one installed, by version; either way this is its base error.
_UsageError = typer.BadParameter.__mro__[2]


def _set_quiet(quiet: bool) -> None:
    if quiet:
        set_verbosity(Verbosity.QUIET)


def _set_verbose(verbose: bool) -> None:
    if verbose:
        set_verbosity(Verbosity.VERBOSE)


_QUIET = typer.Option("--quiet", expose_value=False, callback=_set_quiet, help="Print errors and the result only.")
_VERBOSE = typer.Option(
    "--verbose", expose_value=False, callback=_set_verbose, help="Print reasons too, such as why a placement failed."
)


def _verbosity_flags() -> list[Any]:
    """Return --quiet and --verbose, which are added to every command so that they may follow its name."""

    def declaration(quiet: Annotated[bool, _QUIET] = False, verbose: Annotated[bool, _VERBOSE] = False) -> None:
        pass

    holder = typer.Typer(add_completion=False)
    holder.command()(declaration)
    return list(typer.main.get_command(holder).params)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"attn-surgeon {__version__}\n")
        raise typer.Exit


app = typer.Typer(
    name="attn-surgeon",
    help="Insert attention blocks into pretrained vision networks without changing their outputs, and certify it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Environment: with ATTN_SURGEON_DEBUG=1, an error is printed with its traceback.",
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


for _module in (
    insert,
    inspect,
    blocks,
    bench_blocks,
    diff,
    verify,
    remove,
    prune,
    scout,
    evaluate,
    finetune,
    compare,
    export,
    profile,
    run,
):
    _module.register(app)


def main() -> None:
    """Run the command line and exit with its code."""
    # OpenMP threads that spin while they wait slow everything tenfold where other processes use the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe without × or ✓ shows ? instead
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:]
    try:
        with raising_on_signals(partial(_release_and_print, arguments)):
            code = _run(arguments)
    except KeyboardInterrupt:  # while another error was printed
        code = _print_interrupted(arguments)
    sys.exit(code)


def _release_and_print(arguments: list[str]) -> None:
    release_claims()
    _print_interrupted(arguments)


def _print_interrupted(arguments: list[str]) -> int:
    print_error("interrupted", "", "", as_json="--json" in arguments)
    return INTERRUPTED


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    debug = bool(os.environ.get("ATTN_SURGEON_DEBUG"))
    set_verbosity(Verbosity.NORMAL)
    try:
        code = int(_command().main(arguments, prog_name="attn-surgeon", standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if was_interrupted():
            return _print_interrupted(arguments)
        if debug:
            traceback.print_exc()
        return _print_exception(error, as_json=as_json)
    finally:
        release_claims()
    if code == INTERRUPTED or was_interrupted():  # some versions of typer return the code, others raise
        return _print_interrupted(arguments)
    return code


def _command() -> Any:
    """Build the command; flags take no value, so their help names no type."""
    command: Any = typer.main.get_command(app)
    for each in _with_subcommands(command):
        each.params += _verbosity_flags()
        for parameter in each.params:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = " "
    return command


def _with_subcommands(command: Any) -> Iterator[Any]:
    yield command
    for subcommand in getattr(command, "commands", {}).values():
        yield from _with_subcommands(subcommand)


def _print_exception(error: Exception, *, as_json: bool) -> int:
    """Print an exception as an error, and return the exit code."""
    if isinstance(error, SurgeonError):
        print_error(error.what, error.where, error.hint, as_json=as_json)
        return 2
    if isinstance(error, _UsageError):
        if not error.format_message():  # type: ignore[attr-defined]
            return 2  # no command was named, and its help is already shown
        hint = "see: attn-surgeon " + " ".join((*_named_command(), "--help"))
        print_error(error.format_message().rstrip("."), "", hint, as_json=as_json)  # type: ignore[attr-defined]
        return 2
    if isinstance(error, OSError) and error.strerror:
        hint = "free some space, or write elsewhere" if error.errno == errno.ENOSPC else ""
        print_error(error.strerror, str(error.filename or ""), hint, as_json=as_json)
        return 2
    if is_out_of_memory(error):
        print_error("out of memory", first_line(error), "use smaller images, batches or networks", as_json=as_json)
        return 2
    line = f"{type(error).__name__}: {' '.join(str(error).split())}"
    hint = "this is a bug of attn-surgeon; ATTN_SURGEON_DEBUG=1 prints the traceback"
    print_error(line, "", hint, as_json=as_json)
    return 3


def _named_command() -> list[str]:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    return [argument for argument in sys.argv[1:2] if argument in names]
