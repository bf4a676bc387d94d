"""Atomic writes by one process at a time, and what killed processes leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from attn_surgeon.errors import BusyError
from attn_surgeon.files import claimed, is_leftover, remove_leftovers, replacing, staged

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLDS = """
import sys, time
from pathlib import Path
from attn_surgeon.files import replacing
with replacing(Path("out.bin")) as temporary:
    Path(temporary).write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def other_process() -> subprocess.Popen[str]:
    """Start a process that is in the middle of writing out.bin."""
    root = str(Path(__file__).parents[1])
    running = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "writing\n"
    return running


def write(text: str) -> None:
    with replacing(Path("out.bin")) as temporary:
        Path(temporary).write_text(text)


def test_one_process_writes_and_the_other_is_refused() -> None:
    running = other_process()
    with pytest.raises(BusyError, match=rf"another process \(pid {running.pid}\) is writing this"):
        write("second")
    with pytest.raises(BusyError), staged(Path("out.bin")):
        pass
    write_elsewhere = Path("out.bin.other")
    with replacing(write_elsewhere) as temporary:
        Path(temporary).write_text("free")
    running.communicate("")
    assert names() == ["out.bin", "out.bin.other"]
    assert Path("out.bin").read_text() == "half"


def test_what_a_killed_process_leaves_is_removed_by_the_next() -> None:
    running = other_process()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert len(names()) == 2
    assert all(is_leftover(Path(name)) for name in names())
    write("whole")
    assert names() == ["out.bin"]
    assert Path("out.bin").read_text() == "whole"


def test_only_temporary_files_of_that_name_are_removed() -> None:
    others = [".out.bin.more.abcd1234.tmp", ".other.bin.abcd1234.tmp", ".out.bin.tmp", ".out.bin.swp", "out.bin.tmp"]
    for name in (*others, ".out.bin.abcd1234.tmp"):
        Path(name).touch()
    Path(".out.bin.efgh5678.tmp").mkdir()
    write("x")
    assert names() == sorted([*others, "out.bin"])


def test_threads_of_one_process_leave_each_other_alone() -> None:
    inside, done = threading.Event(), threading.Event()

    def first() -> None:
        with replacing(Path("out.bin")) as temporary:
            Path(temporary).write_text("first")
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    write("second")
    done.set()
    thread.join()
    assert names() == ["out.bin"]
    assert Path("out.bin").read_text() == "first"


def test_a_claim_within_a_claim_is_kept_until_the_end() -> None:
    with claimed(Path("out.bin")):
        write("inner")
        assert names() == [".out.bin.lock", "out.bin"]
    assert names() == ["out.bin"]


def test_names_as_long_as_the_file_system_takes() -> None:
    name = "n" * 255
    for kind in (replacing, staged):
        with kind(Path(name)) as temporary:
            Path(temporary).write_text("x")
        assert names() == [name]


def test_leftovers_in_a_folder() -> None:
    Path("run/seed").mkdir(parents=True)
    kept = [Path("run/.hidden"), Path("run/seed/model.tmp"), Path("run/lock")]
    gone = [Path("run/.request.json.abcd1234.tmp"), Path("run/seed/.a.b.lock")]
    for path in (*kept, *gone):
        path.touch()
    remove_leftovers(Path("run"))
    assert [path.exists() for path in kept] == [True] * 3
    assert [path.exists() for path in gone] == [False] * 2


@pytest.mark.parametrize("writing", [replacing, staged])
def test_an_error_of_a_full_disk_names_the_file(writing: Callable[[Path], AbstractContextManager[object]]) -> None:
    with pytest.raises(OSError, match=r"No space left on device: 'out\.bin'"), writing(Path("out.bin")):
        raise OSError(28, "No space left on device")
    assert names() == []
