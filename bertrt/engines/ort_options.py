"""Open ONNX Runtime sessions: optimization level, threads, waiting and memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.engines.cuda_provider import (
    CUDA,
    cuda_options,
    gpu_error,
    preload_libraries,
    provider_missing,
)
from bertrt.engines.malloc_trim import trim
from bertrt.engines.ort import onnxruntime
from bertrt.errors import ArtifactError, DeviceError

__all__ = ["OrtOptions", "open_session", "shrinking_run_options"]

_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_CPU = "CPUExecutionProvider"
# Fusions of the level "extended" that measure slower on the CPU provider than the nodes they fuse.
_SLOWER = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion")


@dataclass(frozen=True)
class OrtOptions:
    """How ONNX Runtime runs a graph.

    Attributes:
        level: the graph optimization level: "disabled", "basic", "extended" or "all".
        threads: the number of threads of a run.
        provider: the execution provider.
        allow_spinning: let threads that wait for work spin, for about 50 ms of CPU time after each
            run; otherwise they sleep at once.
        cuda_graphs: let runs on a GPU capture CUDA graphs.
    """

    level: str
    threads: int
    provider: str = _CPU
    allow_spinning: bool = True
    cuda_graphs: bool = False


def open_session(graph: Path, options: OrtOptions) -> Any:
    """Open an `onnxruntime.InferenceSession` on a graph file, on the requested provider only.

    Raises DeviceError if the provider is not available, and ArtifactError if ONNX Runtime cannot
    read the graph.
    """
    ort = onnxruntime()
    available = ort.get_available_providers()
    if options.provider not in available:
        other = "onnxruntime and pip install 'bertrt[gpu]'"
        if options.provider != CUDA:
            other = "it and pip install 'bertrt[cpu]'"
        raise DeviceError(
            f"{options.provider} is not in this ONNX Runtime, which has {', '.join(available)}: "
            f"uninstall {other}, or export for another device"
        )
    provider: Any = options.provider
    if provider == CUDA:
        preload_libraries(ort)
        provider = (CUDA, cuda_options(graphs=options.cuda_graphs))
    try:
        session = ort.InferenceSession(
            str(graph),
            _native(options),
            providers=[provider],
            disabled_optimizers=_SLOWER if provider == _CPU else None,
            enable_fallback=False,
        )
    except Exception as error:
        if options.provider == CUDA and (reason := gpu_error(error)):
            raise reason from error
        raise ArtifactError(
            f"ONNX Runtime {ort.__version__} cannot open {graph.name}: {error}"
        ) from error
    session.disable_fallback()
    trim()
    if session.get_providers()[0] != options.provider:
        if options.provider == CUDA:
            raise provider_missing(ort)
        raise DeviceError(
            f"{options.provider} was asked for and ONNX Runtime gave {session.get_providers()}"
        )
    return session


def shrinking_run_options() -> Any:
    """Return run options that free the memory of a run which the session itself does not need."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _native(options: OrtOptions) -> Any:
    """Return the `onnxruntime.SessionOptions`."""
    ort = onnxruntime()
    native = ort.SessionOptions()
    native.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[options.level])
    native.intra_op_num_threads = options.threads
    native.inter_op_num_threads = 1
    native.log_severity_level = 3
    # ONNX Runtime would keep a memory plan for every shape that ever ran, and save no time by it.
    native.enable_mem_pattern = False
    if not options.allow_spinning:
        native.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return native
