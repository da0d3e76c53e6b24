"""Fixtures of the tests of tokenizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.export.checkpoints.checkpoint import Checkpoint, Source
from bertrt.export.tokenizer.tokenizer import write_tokenizer
from bertrt.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def export_folder() -> Callable[..., Tokenizer]:
    """A function that exports a folder's tokenizer for a model, and returns the runtime's."""

    def run(folder: Path, artifact: Path, **sizes: Any) -> Tokenizer:
        artifact.mkdir()
        source = Source("checkpoint", None, "safetensors", (), "")
        checkpoint = Checkpoint({}, {}, folder, folder, source)
        sizes = {"vocab_size": 500, "positions": 64, "token_types": 2, **sizes}
        facts = write_tokenizer(checkpoint, artifact, **sizes)
        return Tokenizer((artifact / "tokenizer.json").read_text(encoding="utf-8"), facts)

    return run
