"""Run a model's graph as Triton's ONNX Runtime backend does: by its path, inputs as given."""

import json
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """A graph with the options that a session has by default."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph that the configuration names."""
        config = json.loads(args["model_config"])
        path = Path(__file__).with_name(config["parameters"]["graph"]["string_value"])
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._inputs = [one["name"] for one in config["input"]]
        self._outputs = [one["name"] for one in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response to each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        tensors = {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }
        # The tokenizer pads to these lengths.
        assert tensors["input_ids"].shape[1] in (16, 32, 64, 128)
        values = self._session.run(self._outputs, tensors)
        named = zip(self._outputs, values, strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*one) for one in named])
