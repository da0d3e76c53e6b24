"""Answer texts in Triton's Python backend; `bertrt export-triton` copied this file from bertrt.

config.pbtxt says what the model takes and gives, and its parameters how: see README.md.
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from bertrt.errors import BertrtError
from bertrt.text_tensors import TEXT, TEXT_PAIR
from bertrt.triton_repository.backend import as_columns, describe_error, open_model
from bertrt.triton_repository.together import Arrays, read_items


class TritonPythonModel:
    """A model, as Triton opens, calls and closes it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open what lies beside this file."""
        given = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in given.items()}
        self._model = open_model(Path(__file__).parent, parameters)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response to each request. The texts of all run together."""
        results = self._model.answer([self._read(request) for request in requests])
        return [_respond(result) for result in results]

    def finalize(self) -> None:
        """Free the model."""
        self._model.close()

    def _read(self, request: Any) -> list[Any] | BertrtError:
        text = pb_utils.get_input_tensor_by_name(request, TEXT)
        pair = pb_utils.get_input_tensor_by_name(request, TEXT_PAIR)
        try:
            arrays = [None if tensor is None else tensor.as_numpy() for tensor in (text, pair)]
            return read_items(self._model.task, *arrays)
        except BertrtError as error:
            return error


def _respond(result: Arrays | BertrtError) -> Any:
    if isinstance(result, BertrtError):
        message, is_fault = describe_error(result)
        code = pb_utils.TritonError.INVALID_ARG if is_fault else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
    tensors = [pb_utils.Tensor(name, array) for name, array in as_columns(result).items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)
