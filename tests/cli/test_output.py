"""What every verb keeps to: JSON alone on stdout, no progress off a terminal, an example in the help."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import attn_surgeon
from attn_surgeon.cli import output
from attn_surgeon.cli.output import print_json, print_table, table

from .helpers import INSERT, Cli, environment, process

VERBS = (
    "insert",
    "inspect",
    "blocks",
    "diff",
    "verify",
    "remove",
    "evaluate",
    "finetune",
    "export",
    "profile",
    "run",
    "recipes",
    "scout",
    "prune",
)
COMMANDS = (
    (*INSERT, "-o", "new.safetensors"),
    (*INSERT, "--dry-run"),
    ("inspect", "demo"),
    ("blocks",),
    ("blocks", "eca"),
    ("diff", "demo-cbam.safetensors"),
    ("verify", "demo-cbam.safetensors"),
    ("remove", "demo-cbam.safetensors"),
    ("evaluate", "demo-cbam.safetensors", "--data", "demo", "--limit", "20"),
    ("profile", "demo-cbam.safetensors", "--rounds", "2"),
    ("run", "demo-cbam", "-o", "new.safetensors"),
    ("recipes",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_json_is_one_document_and_nothing_else_is_printed(cli: Cli, artefact: str, command: tuple[str, ...]) -> None:
    done = cli(*command, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.document
    assert done.out.endswith("\n")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(cli: Cli, verb: str) -> None:
    done = cli(verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example: attn-surgeon {verb}" in " ".join(done.out.split())


def test_without_a_verb_the_help_is_shown(cli: Cli) -> None:
    done = cli()
    assert done.code == 2
    assert "error" not in done.err
    shown = done.out + done.err
    assert [verb for verb in VERBS if verb not in shown] == []


def test_the_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom attn_surgeon.cli.app import main\nsys.argv = ['attn-surgeon', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n    print([m for m in ('torch', 'timm', 'numpy', 'yaml') if m in sys.modules])\n"
    )
    for arguments in (("--help",), ("insert", "--help"), ("insert", "demo", "--nonsense"), ("recipes", "--help")):
        assert process("-c", code, *arguments).out.splitlines()[-1] == "[]"


def test_a_real_process_prints_the_same(artefact: str) -> None:
    done = process("-m", "attn_surgeon", "verify")
    assert (done.code, done.err) == (0, f"using {artefact}, the newest artefact in this folder\n")
    assert "certificate: passed" in done.out
    failed = process("-m", "attn_surgeon", "verify", "nothing.safetensors")
    assert (failed.code, failed.out, len(failed.err.splitlines())) == (2, "", 1)


def test_an_output_without_unicode_gets_the_words_all_the_same() -> None:
    done = process("-m", "attn_surgeon", "inspect", "demo", "--depth", "1", PYTHONIOENCODING="ascii")
    assert (done.code, done.err.count("error")) == (0, 0)
    assert "1?64?8?8" in done.out
    (card,) = process("-m", "attn_surgeon", "blocks", "se", "--json", PYTHONIOENCODING="ascii").document
    assert "σ" in card["formula"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with pipes")
def test_a_closed_pipe_is_not_an_error() -> None:
    command = f"{sys.executable} -m attn_surgeon inspect demo --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    assert done.stderr == ""


def test_the_version_is_the_packages(cli: Cli) -> None:
    done = cli("--version")
    assert (done.code, done.out) == (0, f"attn-surgeon {attn_surgeon.__version__}\n")


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "rest": [float("inf"), 1.5, {"top1": None}]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "loss": None,
        "rest": [None, 1.5, {"top1": None}],
    }


def test_no_number_is_cut_where_it_is_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"{name}-of-some-length", "1,234,567", "0.123"] for name in ("one", "two")]
    columns = ["name", "parameters", "median of them all"]
    made = table("numbers", columns, rows, right=columns[1:])
    print_table(Console(width=20, highlight=False), made)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:]] == rows


OPAQUE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.body(x)
        return self.out(x if x.detach().mean().item() < 100 else x * 2)
"""


@pytest.mark.parametrize("place", [0, 6])
def test_quiet_prints_the_result_and_errors_only(cli: Cli, place: int) -> None:
    arguments = ["insert", "demo", "--block", "cross", "--after", "layer3"]
    arguments.insert(place, "--quiet")
    done = cli(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("wrote the artefact demo-cross.safetensors (")
    assert done.out.count("\n") == 1
    assert cli(*arguments).err.startswith("error: the output exists already; demo-cross.safetensors")
    assert "certificate: passed" in cli("insert", "demo", "-b", "se", "-a", "layer3").out  # the next is not quiet


def test_verbose_prints_reasons(cli: Cli, folder: Path) -> None:
    (folder / "own.py").write_text(OPAQUE)
    arguments = ("insert", "own.py:Net", "--weights", "none", "--size", "32", "-b", "eca", "-a", "body", "--dry-run")
    assert "is not traced" not in cli(*arguments).err
    assert "the forward of the network is not traced, so grafts wrap it" in cli(*arguments, "--verbose").err
    assert "is not traced" not in cli(*arguments).err


def test_the_help_names_the_environment_variable_for_tracebacks(cli: Cli) -> None:
    assert "ATTN_SURGEON_DEBUG=1" in cli("--help").out
    assert "--quiet" in cli("diff", "--help").out


def test_a_phase_that_runs_again_has_a_new_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=StringIO(), force_terminal=True)
    bars = output._bars(screen)
    monkeypatch.setattr(output, "console", lambda stderr: screen)
    monkeypatch.setattr(output, "_bars", lambda screen: bars)

    def shown() -> list[tuple[str, float, float | None]]:
        return [(task.description, task.completed, task.total) for task in bars.tasks]

    with output.phase_bars() as report:
        report("fine-tune", 1, 4)
        for _ in range(2):
            report("evaluate", 2, 3)
            assert shown() == [("fine-tune", 1, 4), ("evaluate", 2, 3)]
            report("evaluate", 3, 3)
            assert shown() == [("fine-tune", 1, 4)]
