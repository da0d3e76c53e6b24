"""The CUDA provider: its options, and an error that says why it cannot be used.

The errors are those that onnxruntime-gpu 1.31.1, or the loader of its library, raises.
"""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.engines.cuda_provider import (
    CUDA,
    cuda_options,
    graphs_refused,
    preload_libraries,
    provider_missing,
)
from bertrt.engines.ort import onnxruntime
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.errors import ArtifactError, DeviceError

OPTIONS = OrtOptions("all", threads=1, provider=CUDA, cuda_graphs=True)


class FakeSession:
    """A session with these providers."""

    def __init__(self, providers: list[str]) -> None:
        self.providers = providers

    def get_providers(self) -> list[str]:
        return self.providers

    def disable_fallback(self) -> None:
        pass


@pytest.fixture
def fake_runtime(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """A factory: a fake ONNX Runtime that has the provider, and what it is called with.

    Opening a session raises `result`, or gives a session with these providers.
    """

    def make(result: Any) -> list[Any]:
        calls: list[Any] = []

        def open_(path: str, native: Any, **settings: Any) -> Any:
            calls.append(settings)
            if isinstance(result, Exception):
                raise result
            return FakeSession(result)

        ort = onnxruntime()
        providers = [CUDA, "CPUExecutionProvider"]
        monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
        monkeypatch.setattr(ort, "preload_dlls", lambda: calls.append("preloaded"))
        monkeypatch.setattr(ort, "InferenceSession", open_)
        return calls

    return make


@pytest.mark.parametrize("graphs", [True, False])
def test_the_provider_gets_these_options(
    fake_runtime: Callable[..., list[Any]], graphs: bool
) -> None:
    calls = fake_runtime([CUDA, "CPUExecutionProvider"])
    open_session(Path("model.onnx"), OrtOptions("all", 1, CUDA, cuda_graphs=graphs))
    assert calls[0] == "preloaded"
    options = {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }
    assert calls[1]["providers"] == [(CUDA, options)]
    assert calls[1]["enable_fallback"] is False
    assert cuda_options(graphs=graphs) == options


def test_other_providers_get_no_options(make_artifact: Callable[..., Path]) -> None:
    graph = make_artifact("BertForMaskedLM") / "model.onnx"
    session = open_session(graph, OrtOptions("basic", threads=1, cuda_graphs=True))
    assert session.get_provider_options() == {"CPUExecutionProvider": {}}


def test_the_cpu_wheel_is_refused() -> None:
    if CUDA in onnxruntime().get_available_providers():
        pytest.skip("this is the wheel with the provider")
    with pytest.raises(DeviceError) as caught:
        open_session(Path("model.onnx"), OPTIONS)
    assert str(caught.value) == (
        "CUDAExecutionProvider is not in this ONNX Runtime, which has "
        f"{', '.join(onnxruntime().get_available_providers())}: uninstall onnxruntime and pip "
        "install 'bertrt[gpu]', or export for another device"
    )


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            r"some of CUDA's libraries are missing \(libcublasLt.so.13: cannot open .*\): pip "
            r"install 'onnxruntime-gpu\[cuda,cudnn\]' brings those that it was built with",
        ),
        (
            "libcuda.so.1: cannot open shared object file: No such file or directory",
            r"there is no NVIDIA driver here \(libcuda.so.1: .*\): run where there is an NVIDIA",
        ),
        ("undefined symbol: Provider_GetHost", "left out CUDAExecutionProvider without a reason"),
        ("", "left out CUDAExecutionProvider without a reason: run where there is an NVIDIA"),
    ],
)
def test_a_provider_that_cannot_be_loaded_is_an_error(
    fake_runtime: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch, load: str, message: str
) -> None:
    """ONNX Runtime opens the graph on the CPU if it cannot load the provider's library."""
    fake_runtime(["CPUExecutionProvider"])
    loaded = []

    def load_(path: str) -> None:
        loaded.append(Path(path).name)
        if load:
            raise OSError(load)

    monkeypatch.setattr(ctypes, "CDLL", load_)
    with pytest.raises(DeviceError, match=message):
        open_session(Path("model.onnx"), OPTIONS)
    assert loaded == ["libonnxruntime_providers_cuda.so"]


def test_the_cpu_wheel_lacks_the_providers_library() -> None:
    if CUDA in onnxruntime().get_available_providers():
        pytest.skip("this is the wheel with the provider")
    assert "libonnxruntime_providers_cuda.so: cannot open" in str(provider_missing(onnxruntime()))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=h",
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_a_failing_gpu_is_a_device_error(fake_runtime: Callable[..., list[Any]], text: str) -> None:
    error = RuntimeError(f"/onnxruntime_src/cuda_call.cc:129 CudaCall {text} \n\nmore")
    fake_runtime(error)
    with pytest.raises(DeviceError) as caught:
        open_session(Path("model.onnx"), OPTIONS)
    assert str(caught.value) == (
        f"ONNX Runtime cannot use the GPU ({text}): run where there is an NVIDIA GPU and its "
        "driver, or export for another device"
    )


def test_an_unreadable_graph_is_an_artifact_error(
    fake_runtime: Callable[..., list[Any]],
) -> None:
    fake_runtime(RuntimeError("INVALID_PROTOBUF : Load model from model.onnx failed"))
    with pytest.raises(ArtifactError, match=r"cannot open model\.onnx"):
        open_session(Path("model.onnx"), OPTIONS)


def test_messages_of_loading_libraries_go_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ort = onnxruntime()
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublas.so.13"))
    before = sys.stdout
    preload_libraries(ort)
    assert sys.stdout is before
    assert capsys.readouterr() == ("", "Failed to load libcublas.so.13\n")


def test_refusals_of_cuda_graphs_are_recognized() -> None:
    sentence = (
        "This session cannot use the graph capture feature as requested by the user as the model "
        "has control flow nodes which can't be supported by CUDAExecutionProvider"
    )
    assert graphs_refused(ArtifactError(f"[ONNXRuntimeError] : {sentence}\nmore")) == sentence
    older = "This session cannot use the CUDA Graph feature as requested by the user"
    assert graphs_refused(ArtifactError(older)) == older
    assert graphs_refused(ArtifactError("no such operator")) is None
