"""A graph of the dialect run on any machine, by the numpy reference of each operator."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx.reference import ReferenceEvaluator

from bertrt.errors import BertrtError
from bertrt.kernels.ops import REFERENCES

__all__ = ["ReferenceSession"]


class ReferenceSession:
    """Has the methods of `bertrt.engines.ort_cpu.OrtCpuSession` that the gate calls."""

    def __init__(self, graph: Path) -> None:
        """Read the graph's file, with the weights beside it."""
        try:
            self._evaluator = ReferenceEvaluator(str(graph), new_ops=REFERENCES)
        except Exception as error:
            raise BertrtError(f"onnx.reference cannot read {graph.name}: {error}") from error
        proto = self._evaluator.proto_
        stored = {one.name for one in proto.graph.initializer}
        self._defaults = [one.name for one in proto.graph.input if one.name in stored]

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph and return its outputs by name; `outputs` limits which.

        Numbers that overflow become infinite, as they do on a device. Raises BertrtError when the
        run fails.
        """
        names = list(outputs) if outputs else list(self._evaluator.output_names)
        try:
            with np.errstate(all="ignore"):
                values = self._evaluator.run(names, dict(feeds))
        except Exception as error:
            raise BertrtError(f"onnx.reference failed on this input: {error}") from error
        return dict(zip(names, values, strict=True))

    def inputs_with_defaults(self) -> list[str]:
        """The names of the graph's inputs that a caller may leave out."""
        return list(self._defaults)

    def close(self) -> None:
        """There is nothing to free but memory, which goes with the object."""
