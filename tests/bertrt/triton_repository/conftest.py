"""Fixtures: repositories as `bertrt export-triton` writes them, and their configurations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.triton_repository.model_config import Settings
from bertrt.triton_repository.write import write_repository


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., Path]:
    """A factory: an artifact, a kind and settings to a repository of the model "model"."""

    def make(artifact: Path, kind: str, **settings: Any) -> Path:
        output = tmp_path / f"repository-{kind}"
        write_repository(artifact, output, kind, Settings("model", **settings))
        return output

    return make


@pytest.fixture(scope="session")
def read_config() -> Callable[[Path], Any]:
    """A function: a model's folder to its configuration, read by Triton's own schema."""
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    def read(folder: Path) -> Any:
        text = (folder / "config.pbtxt").read_text(encoding="utf-8")
        return text_format.Parse(text, ModelConfig())

    return read
