"""Make the package `benchmarks` importable, and provide contenders made for the tests."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load_package() -> None:
    """Import `benchmarks` from its folder; the checkout's root stays off sys.path."""
    spec = importlib.util.spec_from_file_location("benchmarks", ROOT / "benchmarks/__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)


if "benchmarks" not in sys.modules:
    _load_package()

from benchmarks.contenders import registry
from benchmarks.harness import worker_process
from benchmarks.harness.config import BenchConfig

# The module of a contender; {body} is what a test adds.
SOURCE = """
import os, time
from dataclasses import replace

import numpy as np

from benchmarks.contenders.contender import Contender


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

TASKS = ("embeddings",)
PACKAGES = ("numpy", "no-such-package")

{body}

CONTENDERS = {
    "{name}": Contender("{name}", "float32", PACKAGES, missing, load, prepare, tasks=TASKS)
}
"""


@pytest.fixture
def config(tmp_path: Path) -> BenchConfig:
    return BenchConfig(
        folder=tmp_path / "out", threads=2, rounds=3, seconds=1.0, turn=0.01, report=lambda _: None
    )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Add a contender to the registry, here and in a copy of the package for the workers."""
    original, copy = ROOT / "benchmarks", tmp_path / "benchmarks"
    (copy / "contenders").mkdir(parents=True)
    for folder in (original, original / "contenders"):
        for path in folder.iterdir():
            if path.name not in ("contenders", "registry.py", "__pycache__"):
                (copy / path.relative_to(original)).symlink_to(path)
    source = (original / "contenders" / "registry.py").read_text()
    modules: dict[str, str] = {}
    monkeypatch.setattr(registry, "_MODULES", {"cpu": modules})
    monkeypatch.setattr(worker_process, "_MAIN", copy / "harness" / "worker_main.py")

    def make(name: str, body: str = "") -> str:
        modules[name] = f"fake_{name}"
        path = copy / "contenders" / f"fake_{name}.py"
        path.write_text(SOURCE.replace("{name}", name).replace("{body}", body))
        text = f"{source}\n_MODULES = {{'cpu': {modules!r}}}\n"
        (copy / "contenders" / "registry.py").write_text(text)
        full_name = f"benchmarks.contenders.fake_{name}"
        module = ModuleType(full_name)
        exec(path.read_text(), module.__dict__)
        monkeypatch.setitem(sys.modules, full_name, module)
        return name

    return make
