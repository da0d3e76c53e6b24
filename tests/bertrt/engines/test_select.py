"""Which engine runs an artifact, and what is said where it is not to be had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt.engines.ort import onnxruntime
from bertrt.engines.select import find_target
from bertrt.errors import ArtifactError, DeviceError
from bertrt.scheduling.batching import choose_budget


@pytest.mark.parametrize(
    ("target", "provider"),
    [
        ({"device": "cpu", "engine": "ort"}, "CPUExecutionProvider"),
        ({"device": "any", "engine": "ort"}, "CPUExecutionProvider"),
        ({"device": "cuda", "engine": "ort"}, "CUDAExecutionProvider"),
        ({"device": "cuda", "engine": "triton"}, "triton"),
    ],
)
def test_engines(target: dict[str, str], provider: str) -> None:
    found = find_target(target)
    assert (found.device, found.engine, found.provider) == (*target.values(), provider)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "the device ''"),
        ({"device": "cpu"}, "the engine '' on the device 'cpu'"),
        ({"device": "tpu", "engine": "ort"}, "the device 'tpu'"),
        ({"device": "cpu", "engine": "triton"}, "the engine 'triton' on the device 'cpu'"),
    ],
)
def test_no_such_engine(target: dict[str, str], message: str) -> None:
    with pytest.raises(ArtifactError, match=f"made for {message}, which bertrt .* does not run"):
        find_target(target)


def test_a_gpu_takes_large_batches(tmp_path: Path) -> None:
    budget = choose_budget(hidden_size=768, threads=2, device="cuda", root=tmp_path)
    assert (budget.tokens, budget.reason) == (16384, "a GPU is filled by large batches")
    assert choose_budget(9, hidden_size=768, threads=2, device="cuda").tokens == 9


def test_onnx_runtime_without_cuda_is_an_error_and_no_fallback(
    make_artifact: Callable[..., Path],
) -> None:
    path = make_artifact("BertForSequenceClassification", device="cuda", engine="ort")
    with bertrt.load(path, threads=2) as rt:
        info: dict[str, Any] = rt.info
        assert (info["device"], info["engine"]) == ("cuda", "ort")
        assert info["provider"] == "CUDAExecutionProvider"
        if "CUDAExecutionProvider" not in onnxruntime().get_available_providers():
            with pytest.raises(DeviceError, match="CUDAExecutionProvider is not in this"):
                rt("a good movie")
