"""A graph in memory, run: written to a folder of its own for as long as it is open."""

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

__all__ = ["Run", "open_graph"]

Run = Callable[[Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]


@contextmanager
def open_graph(model: ir.Model, folder: Path) -> Iterator[Run]:
    """Open a cpu graph as the runtime would, and give the function that runs it.

    Args:
        model: the graph, float32 or int8; left as it is.
        folder: where it may be written for the while.

    The function takes arrays by input name and the names of the outputs to give back.
    """
    place = Path(tempfile.mkdtemp(dir=folder, prefix=".graph-"))
    try:
        # A copy of the structure: saving points the tensors of the graph itself at the file.
        ir.save(model.clone(), place / "model.onnx", external_data="model.onnx_data")
        options = OrtOptions(level=OPTIMIZATION_LEVEL["cpu"], threads=choose_threads().count)
        session = OrtCpuSession(place / "model.onnx", options)
        try:
            yield session.run
        finally:
            session.close()
    finally:
        shutil.rmtree(place, ignore_errors=True)
