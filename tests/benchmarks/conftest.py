"""The benchmark's modules, which are scripts and no package, and contenders made for its tests."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Last, so that no module of theirs stands before an installed one.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import contender
import process
from bench import Bench

# A contender as a file has it. {body} is what differs.
SOURCE = """
import os, time
import numpy as np

TITLE = "{name}"
TASKS = ("embeddings",)
PRECISION = "float32"
PACKAGES = ("numpy", "no-such-package")
ENVIRONMENT = "bench"

def missing():
    return None

def prepare(model, task, folder):
    (folder / "made").write_text(model.name)

def load(model, task, folder, threads):
    assert (folder / "made").read_text() == model.name
    return Fake(threads)

class Fake:
    def __init__(self, threads):
        self.threads = threads

    def run(self, input_ids, attention_mask, token_type_ids):
        return input_ids.sum(axis=1, keepdims=True)

    def answer(self, texts):
        return np.array([[len(text)] for text in texts])

{body}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        folder=tmp_path / "out", threads=2, rounds=3, seconds=1.0, turn=0.01, tell=lambda _: None
    )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a contender's file into a benchmark folder of the test's own, and list it."""
    folder = tmp_path / "benchmarks"
    (folder / "contenders").mkdir(parents=True)
    (folder / "contenders" / "__init__.py").touch()
    real = Path(process.__file__).parent
    for path in real.glob("*.py"):
        (folder / path.name).symlink_to(path)
    (folder / "common").symlink_to(real / "common")
    names: list[str] = []
    listing = folder / "contender.py"
    listing.unlink()

    def make(name: str, body: str = "") -> str:
        names.append(name)
        path = folder / "contenders" / f"{name}.py"
        path.write_text(SOURCE.replace("{name}", name).replace("{body}", body))
        text = (real / "contender.py").read_text()
        listing.write_text(f"{text}\nNAMES = {tuple(names)!r}\n")
        monkeypatch.setattr(contender, "NAMES", tuple(names))
        module = ModuleType(f"contenders.{name}")
        exec(path.read_text(), module.__dict__)
        monkeypatch.setitem(sys.modules, f"contenders.{name}", module)
        return name

    # Python would put a link's target on the path, and with it the real contenders.
    worker = folder / "worker.py"
    worker.unlink()
    worker.write_text((real / "worker.py").read_text())
    monkeypatch.setattr(process, "_HERE", folder)
    return make
