"""Which engine runs an artifact's graph, by the target that it was exported for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bertrt._version import __version__
from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.artifact.targets import DEVICES, TARGETS, Target
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_cuda import OrtCudaSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.engines.versions import check_versions
from bertrt.errors import ArtifactError, DeviceError

__all__ = ["DeviceSession", "GraphSession", "find_target", "open_graph"]


class GraphSession(Protocol):
    """What runs a graph; see `bertrt.engines.ort_cpu.OrtCpuSession`."""

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

    def complete_inputs(
        self, given: Mapping[str, Any], inputs: tuple[TensorSpec, ...], config: ModelConfig
    ) -> Mapping[str, Any] | None:
        """What to run for arrays on the device; None where `complete_inputs` has to say."""

    def is_on_device(self, value: Any) -> bool:
        """Whether an array is on this session's device."""

    def run_on_device(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """As `run`, with results that stay on the device."""


def find_target(target: Mapping[str, str]) -> Target:
    """The target that a manifest names.

    Raises ArtifactError for a target that this version does not run.
    """
    device, engine = target.get("device", ""), target.get("engine", "")
    for one in TARGETS:
        if (one.device, one.engine) == (device, engine):
            return one
    what = f"the device {device!r}"
    if device in DEVICES:
        what = f"the engine {engine!r} on {what}"
    raise ArtifactError(
        f"the artifact is made for {what}, which bertrt {__version__} does not run: export it "
        f"again for {' or '.join(DEVICES)}"
    )


def open_graph(
    artifact: Artifact, target: Target, options: OrtOptions, instructions: Collection[str] = ()
) -> GraphSession:
    """A session on an artifact's graph, which opens on its first run.

    Args:
        artifact: what holds the graph.
        target: what `find_target` found for it.
        options: for ONNX Runtime.
        instructions: the processor's instruction sets, by which the graph's file is chosen.

    Raises DeviceError when the packages that the engine needs are not installed, or too old.
    """
    graph = artifact.graph_path(instructions)
    if target.engine == "ort" and target.device == "cuda":
        return OrtCudaSession(
            graph,
            replace(options, cuda_graphs=True),
            artifact.check_large_files,
            longest=artifact.config.max_position_embeddings,
        )
    if target.engine == "ort":
        return OrtCpuSession(graph, options, artifact.check_large_files)
    check_versions(artifact.manifest.graph.least)
    try:
        from bertrt.kernels.engine.session import TritonSession  # brings PyTorch
    except ImportError as error:
        raise DeviceError(
            f"the Triton engine cannot be imported ({error}): install it with "
            "pip install 'bertrt[gpu]'"
        ) from error
    session: GraphSession = TritonSession(graph, artifact.check_large_files)
    return session
