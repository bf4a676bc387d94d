"""Train and evaluate with external commands, which read the network from an artefact and write one or print metrics."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.artefact.save import save
from attn_surgeon.control.arms import Loop
from attn_surgeon.errors import SettingsError, TrainingError, excerpt, option

_LONGEST_CAUSE = 160  # characters of the last line, which names the error after a traceback
START, TRAINING_LOG, EVALUATION_LOG = f"start{ARTEFACT_SUFFIX}", "train.log", "evaluate.log"


def script_loop(
    train: str, evaluate: str, provenance: Provenance, folder: Path, *, source: str | None = None, trust: bool = False
) -> Loop:
    """Return a loop of two command lines.

    Args:
        train: trains the network in the file `{artefact}` with `{seed}`, and writes an artefact to `{folder}`.
        evaluate: prints the metrics of the network in the file `{artefact}` as a JSON object, on the last line.
        provenance: where the network comes from.
        folder: where the files to evaluate are written.
        source: the user's own network behind the artefacts.
        trust: whether to run the code that they name.

    Raises:
        SettingsError: a command line is malformed, or lacks a required placeholder.
    """
    _require_placeholders("train", train, ("{artefact}", "{folder}"))
    _require_placeholders("evaluate", evaluate, ("{artefact}",))

    def train_by_script(network: nn.Module, seed: int, out: Path) -> nn.Module:
        start = out / START
        save(set_provenance(network, provenance), start)
        _run(_command(train, {"artefact": start, "seed": seed, "folder": out}), out / TRAINING_LOG, "train")
        written = [file for file in out.glob(f"*{ARTEFACT_SUFFIX}") if file != start]
        if not written:
            hint = "save the trained network there, with attn_surgeon.save(network, path)"
            raise TrainingError("the training has written no artefact", str(out), hint)
        newest = max(written, key=lambda file: file.stat().st_mtime_ns)
        return open_network(str(newest), source=source, trust=trust).model

    def evaluate_by_script(network: nn.Module) -> Mapping[str, Any]:
        file = folder / f"evaluated{ARTEFACT_SUFFIX}"
        save(set_provenance(network, provenance), file)
        printed = _run(_command(evaluate, {"artefact": file}), folder / EVALUATION_LOG, "evaluate")
        file.unlink()
        return _metrics(printed)

    return Loop(train_by_script, evaluate_by_script, f"{train}\n{evaluate}", in_process=False)


def _require_placeholders(name: str, command: str, placeholders: tuple[str, ...]) -> None:
    missing = [placeholder for placeholder in placeholders if placeholder not in command]
    if missing:
        raise SettingsError(f"the command has no {' and no '.join(missing)}", option(name), excerpt(command))
    try:
        shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"the command is malformed: {error}", option(name), excerpt(command)) from None


def _command(template: str, values: Mapping[str, object]) -> list[str]:
    """Return the words of a command line; a path with spaces stays one word."""
    words = shlex.split(template)
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", str(value)) for word in words]
    return words


def _run(command: list[str], log: Path, name: str) -> str:
    """Run a command, its error output in a log file, and return what it printed; raise TrainingError where it fails."""
    try:
        with log.open("w") as errors:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    except OSError as error:
        raise TrainingError(f"the command cannot be run: {error.strerror}", option(name), excerpt(command[0])) from None
    with log.open("a") as output:
        output.write(done.stdout)
    if done.returncode:
        last = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
        cause = excerpt(last[-1], _LONGEST_CAUSE)
        raise TrainingError(f"the command failed with exit code {done.returncode}: {cause}", option(name), str(log))
    return done.stdout


def _metrics(printed: str) -> Mapping[str, Any]:
    lines = printed.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        what = f"the last line is no JSON object: {excerpt(lines[-1])}" if lines else "the command printed nothing"
        raise TrainingError(what, option("evaluate"), 'print the metrics last, such as {"mAP": 0.5}')
    return found
