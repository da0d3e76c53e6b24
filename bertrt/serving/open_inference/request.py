"""Read an inference request: JSON, and after it the binary data of its inputs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from bertrt.serving.fields import Fields
from bertrt.serving.open_inference.tensors import InputTensor, refuse, size_of
from bertrt.text_tensors import TEXT

__all__ = ["InferRequest", "RequestedOutput", "read_request"]

# As many digits as a length may have; Python refuses to read thousands of them.
_DIGITS = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a request names, and whether it is to be binary."""

    name: str
    is_binary: bool


@dataclass(frozen=True)
class InferRequest:
    """An inference request.

    Attributes:
        id: what the answer repeats; None if the request has none.
        inputs: by name, in the order of the request.
        outputs: those that are asked for; none for all.
        is_binary: whether outputs are to be binary that the request does not name.
        timeout: seconds that the answer may take; None without a limit of the request's own.
    """

    inputs: dict[str, InputTensor]
    id: str | None = None
    outputs: tuple[RequestedOutput, ...] = ()
    is_binary: bool = False
    timeout: float | None = None


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """Read a request.

    Args:
        body: the whole body.
        header_length: the header `Inference-Header-Content-Length`: how many bytes of JSON the
            body begins with; None if all of it is. After "0" the body is a single text, and the
            answer is binary.

    Raises HttpError for a body that is no inference request.
    """
    length = _read_length(header_length, len(body))
    if header_length is not None and length == 0:
        text = InputTensor(TEXT, "BYTES", (1,), memoryview(size_of(body) + body))
        return InferRequest({TEXT: text}, is_binary=True)
    try:
        document = orjson.loads(memoryview(body)[:length])
    except orjson.JSONDecodeError as error:
        # Without the parser's own message, which may quote the text.
        refuse(f"the request is not JSON (at byte {error.pos})")
    fields = Fields(document, status=400)
    parameters = fields.object("parameters")
    is_binary = parameters.flag("binary_data_output", False)
    # Triton takes 0 for no limit.
    microseconds = parameters.whole("timeout", 0, least=0)
    return InferRequest(
        _read_inputs(fields, memoryview(body)[length:]),
        fields.string("id", None),
        tuple(_read_outputs(fields, is_binary)),
        is_binary,
        microseconds / 1e6 or None,
    )


def _read_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not _DIGITS.fullmatch(header) or int(header) > size:
        refuse(f"Inference-Header-Content-Length has to be a number of 0 to {size}")
    return int(header)


def _read_inputs(fields: Fields, binary: memoryview) -> dict[str, InputTensor]:
    """Return the inputs; each binary one takes its part of what follows the JSON."""
    inputs: dict[str, InputTensor] = {}
    offset = 0
    for item in _objects(fields, "inputs"):
        name = item.string("name")
        parameters = _parameters(item)
        size = parameters.whole("binary_data_size", None, least=0)
        if size is None:
            data = item.any("data")
            if not isinstance(data, list):
                refuse("`data` has to be a list")
        elif item.has("data"):
            refuse("an input has both `data` and `binary_data_size`")
        else:
            data = binary[offset : offset + size]
            offset += size
        if name in inputs:
            refuse("two inputs have the same name")
        inputs[name] = InputTensor(name, item.string("datatype"), _read_shape(item), data)
    if offset != len(binary):
        refuse(f"the JSON is followed by {len(binary)} bytes, and its inputs ask for {offset}")
    return inputs


def _read_shape(item: Fields) -> tuple[int, ...]:
    shape = item.any("shape")
    # A bool is an int to isinstance.
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        refuse("`shape` has to be a list of whole numbers of at least 0")
    return tuple(shape)


def _read_outputs(fields: Fields, is_binary: bool) -> Iterator[RequestedOutput]:
    names = set()
    for item in _objects(fields, "outputs") if fields.has("outputs") else ():
        name, parameters = item.string("name"), _parameters(item)
        if name in names:
            refuse("two outputs have the same name")
        names.add(name)
        if parameters.has("classification"):
            refuse("the parameter `classification` is not supported")
        yield RequestedOutput(name, parameters.flag("binary_data", is_binary))


def _parameters(item: Fields) -> Fields:
    """Return the parameters of an input or output."""
    parameters = item.object("parameters")
    if any(name.startswith("shared_memory") for name in parameters.items()):
        refuse("shared memory is not supported")
    return parameters


def _objects(fields: Fields, name: str) -> list[Fields]:
    value: Any = fields.any(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        refuse(f"`{name}` has to be a list of objects")
    return [Fields(item, status=400) for item in value]
