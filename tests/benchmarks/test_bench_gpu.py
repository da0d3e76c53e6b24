"""The GPU's side of the benchmark, as far as a machine without one can tell."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import contender
import run
from common.pytorch import TorchContender, load_model
from common.unpadded import UnpaddedContender
from gate import check
from machine import describe_gpu
from models import Model

LENGTHS = (7, 1, 12, 3)


@pytest.fixture
def model(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Model:
    """A tiny model as the benchmark has them: a folder with a checkpoint for each task."""
    (tmp_path / "embeddings").symlink_to(make_checkpoint("BertModel"))
    return Model("tiny", str(tmp_path), "random", cls=2, sep=3, mask=4, pad=0, vocabulary=20)


@pytest.fixture
def inputs() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int64)
    return random.integers(5, 20, mask.shape) * mask, mask, random.integers(0, 2, mask.shape) * mask


@pytest.fixture
def expected(model: Model, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    module = load_model(model, "embeddings", attention="eager")
    return TorchContender(module, model, "embeddings").run(*inputs)


def attend(
    query: Any, key: Any, value: Any, offsets: Any, same: Any, longest: int, _: int
) -> torch.Tensor:
    """What `varlen_attn` computes, sequence by sequence."""
    assert torch.equal(offsets, same)
    assert longest == max(LENGTHS)
    parts = []
    for begin, end in itertools.pairwise(offsets):
        q, k, v = (one[begin:end].transpose(0, 1) for one in (query, key, value))
        parts.append(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1))
    return torch.cat(parts)


def test_unpadded_answers_are_those_of_padded_ones(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray
) -> None:
    module = load_model(model, "embeddings", attention="sdpa")
    unpadded = UnpaddedContender(module, model, "embeddings", attend, device="cpu")
    np.testing.assert_allclose(unpadded.run(*inputs), expected, atol=1e-6)


def test_half_precision_passes_the_gate_as_what_it_is(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray
) -> None:
    module = load_model(model, "embeddings", attention="eager", dtype="float16")
    answers = TorchContender(module, model, "embeddings").run(*inputs)
    assert answers.dtype == np.float32
    assert check(answers, expected, "float16").wrong is None
    assert np.abs(answers - expected).max() > 1e-5
    off = expected + 0.1 * np.random.default_rng(1).standard_normal(expected.shape)
    assert check(off.astype(np.float32), expected, "float16").wrong


def test_bertrt_s_kernels_answer_for_the_benchmark(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray, tmp_path: Path
) -> None:
    module = contender.find("bertrt_cuda")
    module.prepare(model, "embeddings", tmp_path)
    loaded = module.load(model, "embeddings", tmp_path, 1)
    assert check(loaded.run(*inputs), expected, "float16").wrong is None


@pytest.mark.parametrize("name", contender.GPU_NAMES)
def test_without_a_gpu_each_says_in_one_sentence_what_it_lacks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = contender.find(name).missing()
    assert reason
    assert "\n" not in reason


def test_a_run_without_a_gpu_ends_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "describe_gpu", lambda: None)
    assert run.main(["--device", "cuda", "--folder", str(tmp_path / "none")]) == 1
    assert "--device cuda needs an NVIDIA GPU" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (
            "NVIDIA H200, 580.1, 143771\nNVIDIA H200, 580.1, 143771\n",
            {"gpu": "NVIDIA H200", "driver": "580.1", "gpu_memory_gib": 140.4},
        ),
        ("No devices were found\n", None),
    ],
)
def test_the_gpu_is_described_by_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, found: Any
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert describe_gpu() == found
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_gpu() is None
