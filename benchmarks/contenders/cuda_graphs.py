"""A CUDA graph for each input shape of a PyTorch module."""

from typing import Any

__all__ = ["CudaGraphModule"]

# Runs before a capture, which allocate memory and choose algorithms; PyTorch's notes advise three.
_WARMUP_RUNS = 3


class CudaGraphModule:
    """A BERT whose kernels are launched together, from a CUDA graph captured for each shape.

    The next call overwrites the outputs of this one: all graphs share the same memory.
    """

    def __init__(self, module: Any) -> None:
        import torch

        self._module = module
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[tuple[int, ...], tuple[Any, dict[str, Any], Any]] = {}

    def __call__(self, **inputs: Any) -> Any:
        """Return the module's outputs for tensors on the GPU, all of one shape."""
        shape = tuple(next(iter(inputs.values())).shape)
        if shape not in self._captured:
            self._captured[shape] = self._capture(inputs)
        graph, static_inputs, outputs = self._captured[shape]
        for name, tensor in inputs.items():
            static_inputs[name].copy_(tensor)
        graph.replay()
        return outputs

    def _capture(self, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        import torch

        static_inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        # transformers drops a mask without padding, but not in a capture, which has to work for
        # any mask. So the warm-up runs have padding, to load the kernels that the capture uses.
        padded = {**static_inputs, "attention_mask": static_inputs["attention_mask"].clone()}
        padded["attention_mask"][:, -1] = 0
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARMUP_RUNS):
                self._module(**padded)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._module(**static_inputs)
        return graph, static_inputs, outputs
