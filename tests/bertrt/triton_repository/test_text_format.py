"""Protobuf's text format, read back by protobuf."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from bertrt.triton_repository.text_format import Word, write_message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        'quo"te',
        "back\\slash",
        "\\n",
        "new\nline",
        "a\x001",
        "ünïcode 中🙂",
        "it's",
        "\x7f0",
    ],
)
def test_strings(text: str) -> None:
    assert text_format.Parse(write_message({"name": text}), ModelConfig()).name == text


def test_every_kind_of_field() -> None:
    message = {
        "max_batch_size": 8,
        "input": [
            {"name": "a", "data_type": Word("TYPE_STRING"), "dims": [1], "optional": True},
            {"name": "b", "dims": [-1, 3], "reshape": {"shape": []}, "optional": False},
        ],
        "output": [],
        "model_operations": {"op_library_filename": ["one", "two"]},
        "parameters": [{"key": "k", "value": {"string_value": "v"}}],
    }
    read = text_format.Parse(write_message(message), ModelConfig())
    assert read.max_batch_size == 8
    first, second = read.input
    assert (first.name, list(first.dims), first.optional) == ("a", [1], True)
    assert first.data_type == DataType.Value("TYPE_STRING")
    assert (second.name, list(second.dims), second.optional) == ("b", [-1, 3], False)
    assert second.HasField("reshape")
    assert not first.HasField("reshape")
    assert not read.output
    assert list(read.model_operations.op_library_filename) == ["one", "two"]
    assert read.parameters["k"].string_value == "v"
