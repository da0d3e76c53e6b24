"""Run a graph that is in memory: it is written to a temporary folder while it is open."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bertrt.artifact.targets import OPTIMIZATION_LEVEL
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.scheduling.threads import choose_threads

__all__ = ["RunGraph", "open_graph"]

# Takes arrays by input name, and the names of the outputs to return.
RunGraph = Callable[[Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]


@contextmanager
def open_graph(model: ir.Model, folder: Path) -> Iterator[RunGraph]:
    """Open a cpu graph as the runtime would, and yield the function that runs it.

    Args:
        model: the graph, float32 or int8. It is not changed.
        folder: where to write it temporarily.
    """
    directory = Path(tempfile.mkdtemp(dir=folder, prefix=".graph-"))
    try:
        # A copy of the structure: saving makes the graph's own tensors refer to the file.
        ir.save(model.clone(), directory / "model.onnx", external_data="model.onnx_data")
        options = OrtOptions(level=OPTIMIZATION_LEVEL["cpu"], threads=choose_threads().count)
        session = OrtCpuSession(directory / "model.onnx", options)
        try:
            yield session.run
        finally:
            session.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
