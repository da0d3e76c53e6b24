"""Test inputs on the device: valid ones are accepted, others are left to the host to refuse."""

from typing import Any

import numpy as np
import pytest
import torch

from bertrt.arrays.inputs import complete_inputs
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError
from bertrt.kernels.engine.boundary_ops import BatchSizes
from bertrt.kernels.engine.device_inputs import TENSOR_INPUTS, complete_device_inputs

CONFIG = ModelConfig.from_json(
    {"vocab_size": 100, "hidden_size": 8, "num_attention_heads": 2, "max_position_embeddings": 16}
)
FLAG = TensorSpec("masked_only", "bool", (), optional=True)
SPECS = (*(TensorSpec(name, "int64", ("batch", "sequence")) for name in TENSOR_INPUTS), FLAG)
CHOICES = tuple(
    TensorSpec(name, "int64", ("batch", "choices", "sequence")) for name in TENSOR_INPUTS
)
PAST = (*SPECS, TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past", 4)))
CPU = torch.device("cpu")
IDS = torch.tensor([[1, 2, 3], [4, 5, 0]])
MASK = [[1, 1, 1], [1, 0, 1]]


def complete(specs: Any = SPECS, mask_id: int | None = None, **arrays: Any) -> Any:
    return complete_device_inputs(arrays, specs, CONFIG, CPU, mask_id)


def test_missing_inputs_get_their_defaults() -> None:
    inputs = complete(input_ids=IDS)
    assert inputs["input_ids"].data_ptr() == IDS.data_ptr()
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert inputs.sizes == BatchSizes(tokens=6, max_length=3, masks=0)
    assert isinstance(inputs["masked_only"], np.ndarray)
    assert not inputs["masked_only"]
    assert complete(input_ids=IDS, masked_only=torch.tensor(True))["masked_only"]


@pytest.mark.parametrize("mask", [MASK, np.array(MASK), torch.tensor(MASK), torch.tensor(MASK) > 0])
def test_sizes_with_a_mask(mask: Any) -> None:
    inputs = complete(input_ids=IDS, attention_mask=mask, token_type_ids=None, mask_id=5)
    assert inputs["attention_mask"].tolist() == MASK
    assert inputs.sizes == BatchSizes(tokens=5, max_length=3, masks=0)  # the mask token is padding
    assert complete(input_ids=IDS, attention_mask=mask, mask_id=0).sizes.masks == 1


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.uint8, torch.uint16])
def test_integers_of_any_width(dtype: torch.dtype) -> None:
    ids = complete(input_ids=IDS.to(dtype))["input_ids"]
    assert ids.dtype == torch.int64
    assert torch.equal(ids, IDS)


def test_choices_and_views() -> None:
    assert complete(CHOICES, input_ids=IDS[None]).sizes == BatchSizes(6, 3, 0)
    assert complete(input_ids=IDS.T)["input_ids"].tolist() == [[1, 4], [2, 5], [3, 0]]


class OnlyDlpack:
    def __dlpack__(self, **options: Any) -> Any:
        return IDS.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return IDS.numpy().__dlpack_device__()


def test_an_array_with_only_dlpack_is_accepted() -> None:
    assert complete(input_ids=OnlyDlpack())["input_ids"].data_ptr() == IDS.data_ptr()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"attention_mask": IDS},
        {"input_ids": IDS, "inputs_embeds": IDS},
        {"input_ids": IDS.float()},
        {"input_ids": IDS > 2},
        {"input_ids": IDS[0]},
        {"input_ids": IDS[:0]},
        {"input_ids": IDS + 99},
        {"input_ids": IDS - 1},
        {"input_ids": IDS + (1 << 32)},
        {"input_ids": torch.ones(1, 17, dtype=torch.int64)},
        {"input_ids": IDS, "attention_mask": IDS[:1]},
        {"input_ids": IDS, "attention_mask": IDS.float()},
        {"input_ids": IDS, "attention_mask": IDS},
        {"input_ids": IDS, "attention_mask": -IDS},
        {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1], [0, 0, 0]])},
        {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])},
        {"input_ids": IDS, "attention_mask": [[1, 1, 1], [1, 1]]},
        {"input_ids": IDS, "token_type_ids": IDS},
        {"input_ids": IDS, "token_type_ids": IDS > 0},
        {"input_ids": IDS, "token_type_ids": np.array([["a", "b", "c"]] * 2)},
        {"input_ids": IDS, "masked_only": 1},
    ],
    ids=str,
)
def test_invalid_inputs_are_left_to_the_host(arrays: dict[str, Any]) -> None:
    with pytest.raises(InputError) as expected:
        complete_inputs(arrays, SPECS, CONFIG)
    with pytest.raises(InputError) as raised:
        # If this returns None, `BatchRunner.run` calls `complete_inputs`.
        complete(**arrays) or complete_inputs(arrays, SPECS, CONFIG)
    assert str(raised.value) == str(expected.value)


def test_a_key_value_cache_is_left_to_the_host() -> None:
    assert complete(PAST, input_ids=IDS) is None
