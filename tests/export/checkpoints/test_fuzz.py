"""Randomly damaged files are refused or read, without a crash, a hang or much memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "fuzz.py"
ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "120"))


def test_damaged_checkpoints(unpacked: Path, tmp_path: Path) -> None:
    seed = os.environ.get("FUZZ_SEED", "1")
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), str(unpacked), str(tmp_path), str(ROUNDS), seed],
        capture_output=True,
        text=True,
        timeout=120 + ROUNDS,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout)
    assert found["read"] + found["refused"] == ROUNDS
    assert found["refused"] > ROUNDS // 4
    # The checkpoints have twenty kilobytes each, and were all opened before the measurement.
    assert found["grown"] < 64
