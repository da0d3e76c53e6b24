"""Which engine runs an artifact's graph, by the target that it was exported for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bertrt._version import __version__
from bertrt.artifact import Artifact, TensorSpec
from bertrt.config import ModelConfig
from bertrt.cuda_session import CudaSession
from bertrt.errors import ArtifactError, DeviceError
from bertrt.session import Session
from bertrt.session_options import SessionOptions
from bertrt.versions import check_versions

__all__ = ["DeviceSession", "Engine", "GraphSession", "choose_engine", "open_graph"]


@dataclass(frozen=True)
class Engine:
    """A device and what runs graphs on it.

    `provider` is ONNX Runtime's execution provider, or "triton" for bertrt's own kernels.
    """

    device: str
    name: str
    provider: str


_ENGINES = (
    Engine("cpu", "ort", "CPUExecutionProvider"),
    Engine("any", "ort", "CPUExecutionProvider"),
    Engine("cuda", "ort", "CUDAExecutionProvider"),
    Engine("cuda", "triton", "triton"),
)


class GraphSession(Protocol):
    """What runs a graph; see `bertrt.session.Session`."""

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs by name."""

    def check_open(self) -> None:
        """Raise BertrtError when this was closed."""

    def info(self) -> dict[str, Any]:
        """What `Runtime.info` says of how this session runs."""

    def close(self) -> None:
        """Free what it holds."""


@runtime_checkable
class DeviceSession(GraphSession, Protocol):
    """A session that takes and gives arrays on its device too; see `kernels/session.py`."""

    def complete(
        self, given: Mapping[str, Any], inputs: tuple[TensorSpec, ...], config: ModelConfig
    ) -> Mapping[str, Any] | None:
        """What to run for arrays on the device; None where `complete_feeds` has to say."""

    def holds(self, value: Any) -> bool:
        """Whether an array is on this session's device."""

    def run_there(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """As `run`, with results that stay on the device."""


def choose_engine(target: Mapping[str, str]) -> Engine:
    """The engine for a manifest's target; one that names none is for ONNX Runtime.

    Raises ArtifactError for a target that this version does not run.
    """
    device, name = target.get("device", ""), target.get("engine", "ort")
    for one in _ENGINES:
        if (one.device, one.name) == (device, name):
            return one
    devices = dict.fromkeys(one.device for one in _ENGINES)
    what = f"the device {device!r}"
    if device in devices:
        what = f"the engine {name!r} on {what}"
    raise ArtifactError(
        f"the artifact is made for {what}, which bertrt {__version__} does not run: export it "
        f"again for {' or '.join(devices)}"
    )


def open_graph(
    artifact: Artifact, engine: Engine, options: SessionOptions, instructions: Collection[str] = ()
) -> GraphSession:
    """A session on an artifact's graph, which opens on its first run.

    Args:
        artifact: what holds the graph.
        engine: what `choose_engine` chose for it.
        options: for ONNX Runtime.
        instructions: the processor's instruction sets, by which the graph's file is chosen.

    Raises DeviceError when the packages that the engine needs are not installed, or too old.
    """
    graph = artifact.graph_path(instructions)
    if engine.name == "ort" and engine.device == "cuda":
        return CudaSession(
            graph,
            replace(options, cuda_graphs=True),
            artifact.check_large_files,
            longest=artifact.config.max_position_embeddings,
        )
    if engine.name == "ort":
        return Session(graph, options, artifact.check_large_files)
    check_versions(artifact.manifest.graph.least)
    try:
        from bertrt.kernels.session import TritonSession  # brings PyTorch
    except ImportError as error:
        raise DeviceError(
            f"the Triton engine cannot be imported ({error}): install it with "
            "pip install 'bertrt[gpu]'"
        ) from error
    session: GraphSession = TritonSession(graph, artifact.check_large_files)
    return session
