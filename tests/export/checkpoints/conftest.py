"""Fixtures for tests of checkpoints: those of other frameworks, unpacked."""

import importlib.util
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "frameworks"


@pytest.fixture(scope="session")
def unpacked(made_once: Callable[..., Path]) -> Path:
    """The folder of all cases: those in the repository, or those that `make frameworks` made."""
    if "FRAMEWORK_CASES" in os.environ:
        return Path(os.environ["FRAMEWORK_CASES"])

    def write(folder: Path) -> None:
        for path in sorted(GOLDEN.glob("*.tar.xz")):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")

    return made_once("framework-cases", "golden", write)


@pytest.fixture
def case(unpacked: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A factory of copies of a case's folder, by its name."""
    return lambda name: Path(shutil.copytree(unpacked / name, tmp_path / name))


@pytest.fixture(scope="session")
def bundles() -> ModuleType:
    """The module bundle_writer.py."""
    path = Path(__file__).parent / "bundle_writer.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module
