"""Choose the engine of an artifact's target and open its graph."""

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
    """A session on a graph; see `bertrt.engines.ort_cpu.OrtCpuSession`."""

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which."""

    def check_open(self) -> None:
        """Raise BertrtError after `close`."""

    def info(self) -> dict[str, Any]:
        """Return what `Runtime.info` says about how this session runs."""

    def close(self) -> None:
        """Free the session."""


@runtime_checkable
class DeviceSession(GraphSession, Protocol):
    """A session that also takes and returns arrays on its device; see `bertrt.kernels.engine`."""

    def complete_inputs(
        self, arrays: Mapping[str, Any], specs: tuple[TensorSpec, ...], config: ModelConfig
    ) -> Mapping[str, Any] | None:
        """Return checked inputs for arrays on the device.

        Returns None if `bertrt.arrays.inputs.complete_inputs` has to check them on the host.
        """

    def is_on_device(self, value: Any) -> bool:
        """Return whether an array is on this session's device."""

    def run_on_device(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Run the graph as `run` does, and leave the outputs on the device."""


def find_target(target: Mapping[str, str]) -> Target:
    """Return the target that a manifest names.

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
    """Return a session on an artifact's graph; it opens on its first run.

    Args:
        artifact: the artifact.
        target: the artifact's target, from `find_target`.
        options: how ONNX Runtime runs the graph.
        instructions: the processor's instruction sets; they decide which graph file is opened.

    Raises DeviceError if the packages that the engine needs are missing or too old.
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
