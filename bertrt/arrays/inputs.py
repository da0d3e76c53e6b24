"""Check arrays on their way into the graph, because ONNX Runtime would not.

A token id out of range would be an error deep in a Gather, a left-padded row a wrong answer, and a
row without tokens NaN. Each is refused with one sentence instead.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bertrt.arrays.interop import to_numpy
from bertrt.artifact.graph_io import PAST
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError

__all__ = ["complete_flags", "complete_inputs"]

Arrays = dict[str, np.ndarray]

_FALSE = np.array(False)
_FALSE.flags.writeable = False
# Python looks at this many numbers one by one in the time that numpy needs to start.
_FEW = 256


def complete_inputs(
    arrays: Mapping[str, Any], specs: tuple[TensorSpec, ...], config: ModelConfig
) -> Arrays:
    """Check the caller's arrays and add the inputs that have a default.

    Args:
        arrays: name to array; `input_ids` is required. The defaults are ones for
            `attention_mask`, zeros for `token_type_ids`, an empty key/value cache
            (`past_key_values.*`), and False for flags (`first_token_only`, `masked_only`).
        specs: the graph's inputs.
        config: the sizes to check against.

    Returns an array for every input of the graph, contiguous, of the graph's dtype.

    Raises InputError for a missing or unknown name, a wrong dtype, rank or shape, an id out of
    range, an over-long sequence, a row without tokens, padding on the left, or a flag that is
    neither True nor False.
    """
    by_name = {spec.name: spec for spec in specs}
    unknown = [name for name in arrays if name not in by_name]
    if unknown:
        raise InputError(f"unknown input {min(unknown)!r}: this graph takes {', '.join(by_name)}")
    if arrays.get("input_ids") is None:
        raise InputError("input_ids is missing: give an integer array [batch, sequence]")
    ids = _integers("input_ids", arrays["input_ids"], by_name["input_ids"])
    if ids.size == 0:
        raise InputError(f"input_ids has shape {list(ids.shape)}, which holds no token")
    _check_range("input_ids", ids, config.vocab_size)

    past = _past(arrays, by_name, config, ids.shape[0])
    past_length = next(iter(past.values())).shape[2] if past else 0
    total = past_length + ids.shape[-1]
    if total > config.max_position_embeddings:
        raise InputError(
            f"the sequence has {total} tokens, and this model has positions for "
            f"{config.max_position_embeddings}: shorten it"
        )

    mask_shape = (*ids.shape[:-1], total)
    mask = arrays.get("attention_mask")
    if mask is None:
        mask = np.ones(mask_shape, dtype=np.int64)
    mask = _integers("attention_mask", mask, by_name["attention_mask"], allow_bool=True)
    _check_shape("attention_mask", mask, mask_shape)
    _check_mask(mask)

    types = arrays.get("token_type_ids")
    if types is None:
        types = np.zeros(ids.shape, dtype=np.int64)
    types = _integers("token_type_ids", types, by_name["token_type_ids"])
    _check_shape("token_type_ids", types, ids.shape)
    _check_range("token_type_ids", types, config.type_vocab_size)
    flags = complete_flags(arrays, specs)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, **past, **flags}


def complete_flags(arrays: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> Arrays:
    """Return the graph's flags, bool []; False where they are not given.

    Raises InputError for a flag that is neither True nor False.
    """
    return {
        spec.name: _flag(spec.name, arrays.get(spec.name)) for spec in specs if spec.dtype == "bool"
    }


def _flag(name: str, value: Any) -> np.ndarray:
    if value is None:
        return _FALSE
    flag = to_numpy(name, value)
    if flag.shape != () or flag.dtype != bool:
        raise InputError(f"{name} is {value!r:.60}: give true or false")
    return np.array(bool(flag))


def _integers(name: str, value: Any, spec: TensorSpec, *, allow_bool: bool = False) -> np.ndarray:
    array = to_numpy(name, value)
    if not (array.dtype.kind in "iu" or (allow_bool and array.dtype.kind == "b")):
        raise InputError(f"{name} has dtype {array.dtype}: give integers")
    if array.ndim != len(spec.shape):
        raise InputError(
            f"{name} has shape {list(array.shape)}: give [{', '.join(map(str, spec.shape))}]"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _check_shape(name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise InputError(
            f"{name} has shape {list(array.shape)}, and input_ids asks for {list(expected)}"
        )


def _check_range(name: str, array: np.ndarray, size: int) -> None:
    least, greatest = _min_max(array)
    if least < 0 or greatest >= size:
        wrong = array[(array < 0) | (array >= size)]
        raise InputError(f"{name} has the id {wrong[0]}: this model's are 0 to {size - 1}")


def _check_mask(mask: np.ndarray) -> None:
    least, greatest = _min_max(mask)
    if least < 0 or greatest > 1:
        raise InputError("attention_mask has values other than 0 (padding) and 1 (a token)")
    if least == 1:
        return
    rows = mask.reshape(-1, mask.shape[-1])
    empty = np.flatnonzero(~rows.any(axis=1))
    if empty.size:
        raise InputError(f"row {empty[0]} of attention_mask is all zeros: a row needs a token")
    left = np.flatnonzero(rows[:, 0] == 0)
    if left.size:
        raise InputError(
            f"row {left[0]} of attention_mask starts with padding: each text starts in "
            "the first column, so pad on the right"
        )


def _min_max(array: np.ndarray) -> tuple[int, int]:
    """Return the smallest and the largest number.

    A run fills the caches with weights; after it, numpy's reductions take longer than a Python
    loop over the numbers of a short text.
    """
    if array.size <= _FEW:
        numbers = array.ravel().tolist()
        return min(numbers), max(numbers)
    return int(array.min()), int(array.max())


def _past(
    arrays: Mapping[str, Any], specs: Mapping[str, TensorSpec], config: ModelConfig, batch: int
) -> Arrays:
    """Return the key/value cache, each [B, N, past, D] float32; empty if none is given."""
    names = [name for name in specs if name.startswith(f"{PAST}.")]
    if not names:
        return {}
    present = [name for name in names if arrays.get(name) is not None]
    if present and len(present) < len(names):
        missing = next(name for name in names if name not in present)
        raise InputError(f"{missing} is missing: give the whole key/value cache or none of it")
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    if not present:
        return {name: np.zeros((batch, heads, 0, size), np.float32) for name in names}
    past = {name: to_numpy(name, arrays[name]) for name in names}
    first = past[names[0]]
    length = first.shape[2] if first.ndim == 4 else 0
    for name, value in past.items():
        if value.dtype != np.float32 or value.shape != (batch, heads, length, size):
            raise InputError(
                f"{name} is {value.dtype} {list(value.shape)}: give float32 "
                f"[{batch}, {heads}, past, {size}], the same past for all"
            )
    return {name: np.ascontiguousarray(value) for name, value in past.items()}
