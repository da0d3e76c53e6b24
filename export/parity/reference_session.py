"""Run a graph of the Triton engine on any machine, by the numpy reference of each operator."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx.reference import ReferenceEvaluator

from bertrt.errors import BertrtError
from bertrt.kernels.ops.registry import REFERENCES

__all__ = ["ReferenceSession"]


class ReferenceSession:
    """Has the methods of `bertrt.engines.ort_cpu.OrtCpuSession` that the parity check calls."""

    def __init__(self, graph: Path) -> None:
        """Read a graph's file and the weights beside it; raises BertrtError if it is damaged."""
        try:
            self._evaluator = ReferenceEvaluator(str(graph), new_ops=REFERENCES)
        except Exception as error:
            raise BertrtError(f"onnx.reference cannot read {graph.name}: {error}") from error
        proto = self._evaluator.proto_
        stored = {tensor.name for tensor in proto.graph.initializer}
        self._defaults = [value.name for value in proto.graph.input if value.name in stored]

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return the outputs by name; `outputs` limits which.

        Values that overflow become infinite, as on a device. Raises BertrtError if the run fails.
        """
        names = list(outputs) if outputs else list(self._evaluator.output_names)
        try:
            with np.errstate(all="ignore"):
                values = self._evaluator.run(names, dict(inputs))
        except Exception as error:
            raise BertrtError(f"onnx.reference failed on this input: {error}") from error
        return dict(zip(names, values, strict=True))

    def inputs_with_defaults(self) -> list[str]:
        """Return the names of the graph's inputs that a caller may leave out."""
        return list(self._defaults)

    def close(self) -> None:
        """Do nothing; memory is freed with the object."""
