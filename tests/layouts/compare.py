"""The folders that make_hub.py wrote, and the check of vectors from them.

It runs in the environments of the runtimes, so nothing here imports bertrt.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["EXPECTED", "ROOT", "check"]

ROOT = Path(sys.argv[1])
EXPECTED: dict[str, Any] = json.loads((ROOT / "expected.json").read_text(encoding="utf-8"))
# Of float32, an absolute difference; of int8, a cosine, as the export promises.
FLOAT32, INT8 = 1e-5, 0.995


def check(
    what: str, name: str, answer: Any, *, int8: bool = False, left_out: Sequence[int] = ()
) -> None:
    """Compare answers with the expected ones, but for those `left_out`; exit if they differ."""
    expected, answer = (
        np.delete(np.asarray(array), left_out, axis=0) for array in (EXPECTED[name], answer)
    )
    assert answer.shape == expected.shape, (what, name, answer.shape, expected.shape)
    worst = float(np.abs(answer - expected).max())
    if int8:
        norms = np.linalg.norm(answer, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = float(((answer * expected).sum(axis=1) / norms).min())
        print(f"{what:24} {name:10} int8     worst cosine {cosine:.4f}")
        # Equal vectors would mean that the float32 graph was opened.
        good = cosine >= INT8 and worst > FLOAT32
    else:
        print(f"{what:24} {name:10} float32  {worst:.1e}")
        good = worst <= FLOAT32
    if not good:
        sys.exit(f"{what}: {name} differs")
