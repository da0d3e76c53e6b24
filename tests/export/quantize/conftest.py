"""Fixtures for tests of quantization: fused graphs, observed inputs and int8 artifacts."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertrt.export.pipelines.cpu import fuse_for_cpu
from bertrt.export.quantize.observe import Observed


@pytest.fixture(scope="session")
def fused(graphs: ModuleType) -> Callable[..., Any]:
    """A factory of cpu graphs, ready to be quantized, by class name."""

    def make(class_name: str) -> Any:
        model = graphs.traced(class_name)
        config = graphs.model_of(class_name).config
        fuse_for_cpu(
            model,
            config,
            graphs.head_of(class_name),
            "cpu",
            mask_id=4,
            to_quantize=True,
            vectors=graphs.vectors_of(class_name),
        )
        return model

    return make


@pytest.fixture
def observed() -> Callable[..., Observed]:
    """A factory of a layer's inputs [R, K], of which `wide` columns have a much wider range."""

    def make(rows: int = 200, columns: int = 24, wide: int = 2) -> Observed:
        random = np.random.default_rng(7)
        sample = random.standard_normal((rows, columns)).astype(np.float32)
        sample[:, :wide] *= 40
        sample[:, wide:] += random.standard_normal(columns - wide).astype(np.float32)
        return Observed.of(sample)

    return make


@pytest.fixture
def int8_artifact(
    make_checkpoint: Callable[..., Path],
    make_artifact: Callable[..., Path],
    made_once: Callable[..., Path],
) -> Any:
    """A factory of int8 artifacts and the float32 ones of the same checkpoint, by class name."""
    from bertrt.export import export

    def make(class_name: str, **bounds: float) -> SimpleNamespace:
        checkpoint = make_checkpoint(class_name)
        exported = made_once(
            class_name,
            ("int8", sorted(bounds.items())),
            lambda output: export(checkpoint, output, dtype="int8", **bounds),
        )
        plain = make_artifact(class_name)
        return SimpleNamespace(int8=exported, float32=plain, checkpoint=checkpoint)

    return make
