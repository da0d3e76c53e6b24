"""The engine of an artifact's target, and errors for unknown targets and missing engines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt.engines.ort import onnxruntime
from bertrt.engines.select import find_target
from bertrt.errors import ArtifactError, DeviceError


@pytest.mark.parametrize(
    ("target", "provider"),
    [
        ({"device": "cpu", "engine": "ort"}, "CPUExecutionProvider"),
        ({"device": "any", "engine": "ort"}, "CPUExecutionProvider"),
        ({"device": "cuda", "engine": "ort"}, "CUDAExecutionProvider"),
        ({"device": "cuda", "engine": "triton"}, "triton"),
    ],
)
def test_find_target(target: dict[str, str], provider: str) -> None:
    chosen = find_target(target)
    assert (chosen.device, chosen.engine, chosen.provider) == (*target.values(), provider)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "the device ''"),
        ({"device": "cpu"}, "the engine '' on the device 'cpu'"),
        ({"device": "tpu", "engine": "ort"}, "the device 'tpu'"),
        ({"device": "cpu", "engine": "triton"}, "the engine 'triton' on the device 'cpu'"),
    ],
)
def test_unknown_targets_are_refused(target: dict[str, str], message: str) -> None:
    with pytest.raises(ArtifactError, match=f"made for {message}, which bertrt .* does not run"):
        find_target(target)


def test_an_onnx_runtime_without_cuda_is_an_error_without_fallback(
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
