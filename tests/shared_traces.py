"""Trace models of one structure once a run: tracing takes most of the time of an export.

What torch.onnx.export makes does not depend on the values of parameters. So its graphs are kept in
files, under all that they depend on, and each export puts its own parameters in. What follows is
done for each: names, cleaning, fusions, and the check that the answers are the model's.
"""

import hashlib
import io
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
import transformers
from onnx_ir.tensor_adapters import TorchTensor

__all__ = ["share_traces", "structure"]

ExportGraph = Callable[[torch.nn.Module, tuple[Any, ...], tuple[Any, ...]], ir.Model]

# Of a config, what names things: no graph depends on it.
_NAMES = {"_name_or_path", "architectures", "id2label", "label2id"}


def share_traces(export_graph: ExportGraph, made_once: Callable[..., Path]) -> ExportGraph:
    """Return `export_graph`, which keeps its graphs in the run's folder."""

    def shared(
        module: torch.nn.Module, arguments: tuple[Any, ...], axes: tuple[Any, ...]
    ) -> ir.Model:
        path = made_once(
            "trace",
            structure((module, arguments, axes)),
            lambda path: ir.save(export_graph(module, arguments, axes), path),
        )
        model = ir.load(path)
        parameters = dict(module.named_parameters(remove_duplicate=False))
        for name, value in model.graph.initializers.items():
            if name in parameters:
                value.const_value = TorchTensor(parameters[name], name=name)
        return model

    return shared


def structure(value: Any) -> str:
    """Return a digest of all that a trace depends on: everything but the values of parameters."""
    file = io.BytesIO()
    _Structure(file).dump(value)
    return hashlib.sha256(file.getvalue()).hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    # numpy has no bfloat16.
    content: bytes = tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content


class _Structure(pickle.Pickler):
    """Writes models of one structure as the same bytes, in every process."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._tensors: dict[int, int] = {}

    def persistent_id(self, value: Any) -> Any:
        """Return what stands for a value whose pickle has more than the structure."""
        if isinstance(value, torch.Tensor):
            # The number tells tied weights from equal ones.
            number = self._tensors.setdefault(id(value), len(self._tensors))
            data = None if isinstance(value, torch.nn.Parameter) else _bytes(value)
            return "tensor", number, str(value.dtype), tuple(value.shape), data
        if isinstance(value, transformers.PretrainedConfig):
            fields = vars(value).items()
            return type(value), sorted(item for item in fields if item[0] not in _NAMES)
        if isinstance(value, type) and value.__module__.startswith("bertrt."):
            # With the constants beside it, which a test may change.
            constants = vars(sys.modules[value.__module__]).items()
            simple = [one for one in constants if isinstance(one[1], int | float | str | tuple)]
            return value.__module__, value.__qualname__, repr(sorted(simple))
        if isinstance(value, set | frozenset):  # in no order that lasts
            return "set", sorted(map(repr, value))
        if isinstance(value, types.FunctionType):  # pickles have no local ones
            return "function", value.__module__, value.__qualname__
        return None
