"""Every kernel compiles to machine code for real GPUs, in what such a GPU has: none is needed.

The interpreter accepts more than the compiler, and shows nothing of shared memory or registers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertrt.kernels.triton import KERNELS

SCRIPT = Path(__file__).parent / "compile_kernels.py"
# Bytes of shared memory that a program may have.
SHARED = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
ALL = ["float16", "bfloat16", "float32"]


@pytest.mark.parametrize(("capability", "dtypes"), [(80, ALL[:1]), (89, ALL[:1]), (90, ALL)])
def test_kernels_compile(capability: int, dtypes: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), str(capability), *dtypes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["kernel"] for row in rows}
    assert {f"_{kernel.__name__}" for kernel in KERNELS.values()} | {"_activate"} == found
    for row in rows:
        assert row["shared"] <= SHARED[capability], row
        # What does not fit in registers is kept in memory: a little, outside of loops, is no harm.
        assert row["stack"] <= 256, row
    ahead = [row for row in rows if "ahead" in row["case"]]
    assert len(ahead) == 2
    for row in ahead:
        # Both operands are loaded two steps ahead, which shows in the room that they take.
        assert row["shared"] >= 2 * 2 * 64 * 64 * 2, row
