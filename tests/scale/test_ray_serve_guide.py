"""The Python code of docs/guides/ray.md runs, in order."""

import os
import re
from pathlib import Path
from typing import Any

from ray_serve import local_cluster

ROOT = Path(__file__).parents[2]
ARTIFACTS = Path(os.environ["ARTIFACTS"])
GUIDE = (ROOT / "docs/guides/ray.md").read_text(encoding="utf-8")
# The directories that the guide names.
PLACES = {"/models/minilm": ARTIFACTS / "embedder", "/models/reranker": ARTIFACTS / "reranker"}


def test_the_guide_s_code_runs() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```py\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 4
    with local_cluster(cpus=8):
        for code in blocks:
            for place, found in PLACES.items():
                code = code.replace(place, str(found))
            exec(code, names)
    assert names["vectors"].shape == (2, 96)
