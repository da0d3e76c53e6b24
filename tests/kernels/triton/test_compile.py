"""Test that every kernel compiles for real GPUs and fits their resources; no GPU is needed.

The interpreter accepts more than the compiler, and ignores shared memory and registers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertrt.kernels.triton import KERNELS

SCRIPT = Path(__file__).parent / "compile_kernels.py"
# The most shared memory of one program in bytes, by compute capability.
SHARED = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
ALL = ["float16", "bfloat16", "float32"]


@pytest.mark.parametrize(("capability", "dtypes"), [(80, ALL[:1]), (89, ALL[:1]), (90, ALL)])
def test_kernels_compile(capability: int, dtypes: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), str(capability), *dtypes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    compiled = {row["kernel"] for row in rows}
    names = {*(kernel.__name__ for kernel in KERNELS.values()), "activate", "map_blocks"}
    assert compiled == {f"_{name}_kernel" for name in names}
    dependent = [row for row in rows if "dependent" in row["case"]]
    assert {row["kernel"] for row in dependent} == (compiled if capability >= 90 else set())
    for row in rows:
        assert row["waits"] == (row in dependent), row
        assert row["shared"] <= SHARED[capability], row
        # Registers that are spilled to memory: a few, outside of loops, do no harm.
        assert row["stack"] <= 256, row
    pipelined = [row for row in rows if "pipelined" in row["case"]]
    assert len(pipelined) == (4 if dependent else 2)
    for row in pipelined:
        # Both operands are loaded two steps ahead, which takes this much shared memory.
        assert row["shared"] >= 2 * 2 * 64 * 64 * 2, row
