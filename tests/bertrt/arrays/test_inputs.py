"""Raw arrays: defaults, conversions, and a clear error for arrays that do not fit the graph."""

from typing import Any

import numpy as np
import pytest

from bertrt.arrays.inputs import complete_inputs
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError

CONFIG = ModelConfig.from_json(
    {
        "vocab_size": 100,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
    }
)
NAMES = ("input_ids", "attention_mask", "token_type_ids")
INPUTS = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in NAMES)
CHOICES = tuple(TensorSpec(name, "int64", ("batch", "choices", "sequence")) for name in NAMES)
PAST = tuple(
    TensorSpec(f"past_key_values.0.{kind}", "float32", ("batch", 2, "past_sequence", 4))
    for kind in ("key", "value")
)


def complete(**arrays: Any) -> dict[str, np.ndarray]:
    return complete_inputs(arrays, INPUTS, CONFIG)


def test_missing_arrays_get_defaults() -> None:
    inputs = complete(input_ids=[[5, 6, 7]])
    assert inputs["attention_mask"].tolist() == [[1, 1, 1]]
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0]]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int64)}


FLAG = TensorSpec("masked_only", "bool", (), optional=True)


@pytest.mark.parametrize("value", [None, True, False, np.True_, np.array(True)])
def test_flags(value: Any) -> None:
    arrays = {"input_ids": [[5]], "masked_only": value}
    flag = complete_inputs(arrays, (*INPUTS, FLAG), CONFIG)["masked_only"]
    assert (flag.dtype, flag.shape, bool(flag)) == (bool, (), bool(value))


@pytest.mark.parametrize("value", [1, "yes", [True], np.array([True]), np.array(1)])
def test_flags_of_other_types_are_refused(value: Any) -> None:
    arrays = {"input_ids": [[5]], "masked_only": value}
    with pytest.raises(InputError, match=r"masked_only is .*: give true or false"):
        complete_inputs(arrays, (*INPUTS, FLAG), CONFIG)
    with pytest.raises(InputError, match="unknown input 'masked_only'"):
        complete(**arrays)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.uint64])
def test_integers_of_any_width_become_int64(dtype: Any) -> None:
    inputs = complete(input_ids=np.array([[5, 6]], dtype), attention_mask=np.array([[True, False]]))
    assert inputs["input_ids"].tolist() == [[5, 6]]
    assert inputs["attention_mask"].tolist() == [[1, 0]]


def test_views_become_contiguous() -> None:
    ids = np.arange(12).reshape(3, 4).T
    assert complete(input_ids=ids)["input_ids"].flags.c_contiguous


def test_torch_tensors_are_accepted() -> None:
    torch = pytest.importorskip("torch")
    assert complete(input_ids=torch.tensor([[1, 2]]))["input_ids"].tolist() == [[1, 2]]


def test_choices_have_three_axes() -> None:
    inputs = complete_inputs({"input_ids": np.ones((2, 3, 4), int)}, CHOICES, CONFIG)
    assert inputs["attention_mask"].shape == (2, 3, 4)
    with pytest.raises(InputError, match=r"shape \[2, 4\]: give \[batch, choices, sequence\]"):
        complete_inputs({"input_ids": np.ones((2, 4), int)}, CHOICES, CONFIG)


def test_cache_is_empty_by_default_and_counts_as_length() -> None:
    inputs = complete_inputs({"input_ids": [[1, 2]]}, INPUTS + PAST, CONFIG)
    assert inputs["past_key_values.0.key"].shape == (1, 2, 0, 4)
    past = {spec.name: np.zeros((1, 2, 5, 4), np.float32) for spec in PAST}
    inputs = complete_inputs({"input_ids": [[1, 2]], **past}, INPUTS + PAST, CONFIG)
    assert inputs["attention_mask"].shape == (1, 7)


IDS = np.array([[1, 2, 3], [4, 5, 0]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "input_ids is missing"),
        ({"input_ids": None}, "input_ids is missing"),
        ({"input_ids": IDS, "inputs_embeds": IDS}, "unknown input 'inputs_embeds'"),
        ({"input_ids": IDS.astype(float)}, "dtype float64: give integers"),
        ({"input_ids": IDS > 2}, "dtype bool"),
        ({"input_ids": [["a"]]}, "give integers"),
        ({"input_ids": [[1, 2], [3]]}, "differ in length"),
        ({"input_ids": "text"}, "give integers"),
        ({"input_ids": IDS[0]}, r"shape \[3\]: give \[batch, sequence\]"),
        ({"input_ids": IDS[None]}, r"shape \[1, 2, 3\]"),
        ({"input_ids": np.ones((0, 3), int)}, "holds no token"),
        ({"input_ids": np.ones((2, 0), int)}, "holds no token"),
        ({"input_ids": [[100]]}, "the id 100: this model's are 0 to 99"),
        ({"input_ids": [[-1]]}, "the id -1"),
        ({"input_ids": np.array([[2**63]], np.uint64)}, "input_ids has the id"),
        ({"input_ids": np.ones((1, 17), int)}, "17 tokens, and this model has positions for 16"),
        ({"input_ids": IDS, "attention_mask": [[1, 1, 1]]}, r"asks for \[2, 3\]"),
        ({"input_ids": IDS, "attention_mask": IDS * 1.0}, "attention_mask has dtype float64"),
        ({"input_ids": IDS, "attention_mask": IDS}, "values other than 0"),
        ({"input_ids": IDS, "attention_mask": [[1, 1, 1], [0, 0, 0]]}, "row 1 .* all zeros"),
        ({"input_ids": IDS, "attention_mask": [[1, 1, 1], [0, 1, 1]]}, "pad on the right"),
        ({"input_ids": IDS, "token_type_ids": [[0, 0, 0]]}, "token_type_ids has shape"),
        ({"input_ids": IDS, "token_type_ids": IDS}, "token_type_ids has the id 2"),
    ],
)
def test_wrong_arrays_are_refused(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete(**arrays)


@pytest.mark.parametrize(
    ("past", "message"),
    [
        ({"past_key_values.0.key": np.zeros((1, 2, 5, 4), np.float32)}, "value is missing"),
        (
            {spec.name: np.zeros((1, 2, 5, 4)) for spec in PAST},
            r"is float64 \[1, 2, 5, 4\]: give float32",
        ),
        ({spec.name: np.zeros((2, 2, 5, 4), np.float32) for spec in PAST}, "give float32"),
        ({spec.name: np.zeros((1, 2), np.float32) for spec in PAST}, "give float32"),
        (
            {spec.name: np.zeros((1, 2, 5 + i, 4), np.float32) for i, spec in enumerate(PAST)},
            "the same past for all",
        ),
        ({spec.name: np.zeros((1, 2, 15, 4), np.float32) for spec in PAST}, "positions for 16"),
    ],
)
def test_wrong_caches_are_refused(past: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete_inputs({"input_ids": [[1, 2]], **past}, INPUTS + PAST, CONFIG)
