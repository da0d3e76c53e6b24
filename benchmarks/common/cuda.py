"""A GPU: whether it can be used here, and a CUDA graph for each shape of a PyTorch module."""

from collections.abc import Sequence
from typing import Any

from common.packages import packages_missing

__all__ = ["Graphed", "cuda_missing", "cuda_provider_missing"]

# Of the runs before a capture, which allocate and choose algorithms, PyTorch's notes advise three.
_WARM = 3
_ADVICE = "install it beside PyTorch for CUDA"


def cuda_missing(modules: Sequence[str]) -> str | None:
    """The sentence that names a module that is missing, PyTorch's among them, or the GPU."""
    if reason := packages_missing(("torch", *modules), _ADVICE):
        return reason
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no CUDA device here"
    return None


def cuda_provider_missing(modules: Sequence[str]) -> str | None:
    """The sentence that names a module that is missing, or says that ONNX Runtime has no CUDA."""
    if reason := packages_missing(("onnxruntime", *modules), _ADVICE):
        return reason
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in available:
        return None
    return f"ONNX Runtime {onnxruntime.__version__} here has only {', '.join(available)}"


class Graphed:
    """A BERT whose kernels are launched together, from a CUDA graph captured for each shape.

    What it returns is overwritten by its next call: all graphs work in the same memory.
    """

    def __init__(self, module: Any) -> None:
        import torch

        self._module = module
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[tuple[int, ...], tuple[Any, dict[str, Any], Any]] = {}

    def __call__(self, **inputs: Any) -> Any:
        """The module's outputs for tensors on the GPU, all of one shape."""
        shape = tuple(next(iter(inputs.values())).shape)
        if shape not in self._captured:
            self._captured[shape] = self._capture(inputs)
        graph, held, outputs = self._captured[shape]
        for name, tensor in inputs.items():
            held[name].copy_(tensor)
        graph.replay()
        return outputs

    def _capture(self, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        import torch

        held = {name: tensor.clone() for name, tensor in inputs.items()}
        # transformers leaves a mask without padding out, but not in a capture, which is for any
        # mask: so these runs have padding, to choose and load the kernels of the capture.
        padded = {**held, "attention_mask": held["attention_mask"].clone()}
        padded["attention_mask"][:, -1] = 0
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                self._module(**padded)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._module(**held)
        return graph, held, outputs
