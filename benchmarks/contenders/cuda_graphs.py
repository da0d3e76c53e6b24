"""CUDA graphs of a PyTorch module: one for each input shape, with and without padding."""

from typing import Any

__all__ = ["CudaGraphModule"]

# Runs before a capture, which allocate memory and choose algorithms; PyTorch's notes advise three.
_WARMUP_RUNS = 3
_MASK = "attention_mask"


class CudaGraphModule:
    """A BERT whose kernels are launched together, from a CUDA graph captured for each shape.

    Without padding there is no mask, so that SDPA takes its fastest kernel: transformers drops such
    a mask by itself, but not in a capture. The next call overwrites the outputs of this one: all
    graphs share the same memory.
    """

    def __init__(self, module: Any) -> None:
        import torch

        self._module = module
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[Any, tuple[Any, dict[str, Any], Any]] = {}

    def __call__(self, **inputs: Any) -> Any:
        """Return the module's outputs for tensors on the GPU, all of one shape."""
        if bool(inputs[_MASK].all()):
            del inputs[_MASK]
        key = (tuple(inputs["input_ids"].shape), _MASK in inputs)
        if key not in self._captured:
            self._captured[key] = self._capture(inputs)
        graph, static_inputs, outputs = self._captured[key]
        for name, tensor in inputs.items():
            static_inputs[name].copy_(tensor)
        graph.replay()
        return outputs

    def _capture(self, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        import torch

        static_inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARMUP_RUNS):
                self._module(**static_inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._module(**static_inputs)
        return graph, static_inputs, outputs
