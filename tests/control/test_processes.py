"""A comparison whose trainings run in several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from torch.nn.parallel import DistributedDataParallel
from attn_surgeon import compare
from tests.control.test_compare import correct, operated, train

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()

def train_in_parallel(net, seed, folder):
    parallel = DistributedDataParallel(net)
    torch.manual_seed(seed + 100 * rank)
    train(parallel, seed, folder)
    return parallel

result = compare(operated(), train=train_in_parallel, evaluate=correct, seeds=1, out="run")
with open(f"rank-{rank}.txt", "w") as file:
    file.write(str(result))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_the_first_of_two_processes_writes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*torchrun, "script.py"], cwd=tmp_path, check=True, env=os.environ | environment)
    document = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert [item["changed"] for item in document["grafts"]] == [True, True]
    first, second = ((tmp_path / f"rank-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
