"""How ONNX Runtime is told to run a graph: level, threads, waiting, memory, exact int8."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.cuda_provider import CUDA, cuda_options, failure, missing, preload
from bertrt.errors import ArtifactError, DeviceError
from bertrt.heap import trim
from bertrt.ort import onnxruntime

__all__ = ["SessionOptions", "open_session", "shrinking"]

_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_CPU = "CPUExecutionProvider"
# What the level "extended" would fuse, and what measures slower on the CPU provider than the nodes
# that it is made of.
_SLOWER = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion")


@dataclass(frozen=True)
class SessionOptions:
    """How to run a graph.

    `level` is ONNX Runtime's graph optimization level: "disabled", "basic", "extended" or "all".
    `spinning` is whether threads that wait for work stay awake for it, some 50 ms of CPU time
    after each run; else they sleep at once. `exact_int8` has products of uint8 and int8 computed
    in 16 bits, for processors on which they would saturate. `cuda_graphs` lets runs on a GPU
    capture CUDA graphs.

    Raises ArtifactError for a level that ONNX Runtime does not have.
    """

    level: str
    threads: int
    provider: str = _CPU
    spinning: bool = True
    exact_int8: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        if self.level not in _LEVELS:
            raise ArtifactError(
                f"the manifest's session_level is {self.level!r}, none of {', '.join(_LEVELS)}: "
                "export the checkpoint again"
            )


def open_session(graph: Path, options: SessionOptions) -> Any:
    """An `onnxruntime.InferenceSession` on a graph's file, on the one provider asked for.

    Raises DeviceError when the provider is not to be had, and ArtifactError when ONNX Runtime
    cannot read the graph.
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
        preload(ort)
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
        if options.provider == CUDA and (reason := failure(error)):
            raise reason from error
        raise ArtifactError(
            f"ONNX Runtime {ort.__version__} cannot open {graph.name}: {error}"
        ) from error
    session.disable_fallback()
    trim()
    if session.get_providers()[0] != options.provider:
        if options.provider == CUDA:
            raise missing(ort)
        raise DeviceError(
            f"{options.provider} was asked for and ONNX Runtime gave {session.get_providers()}"
        )
    return session


def shrinking() -> Any:
    """Run options with which a run frees the memory that the session does not need for itself."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _native(options: SessionOptions) -> Any:
    """The `onnxruntime.SessionOptions`."""
    ort = onnxruntime()
    native = ort.SessionOptions()
    level = options.level
    if options.exact_int8:
        # The conversion of weights is one of the optimizations of "extended"; below it, the entry
        # would do nothing.
        native.add_session_config_entry("session.x64quantprecision", "1")
        level = level if level in ("extended", "all") else "extended"
    native.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[level])
    native.intra_op_num_threads = options.threads
    native.inter_op_num_threads = 1
    native.log_severity_level = 3
    # A memory plan is kept for every shape that was ever run, and gains no time.
    native.enable_mem_pattern = False
    if not options.spinning:
        native.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return native
