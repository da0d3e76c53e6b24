"""Targets: which devices, engines and dtypes go together; other combinations are refused."""

import pytest

from bertrt.artifact.targets import (
    DEVICES,
    DTYPES,
    ENGINES,
    OPTIMIZATION_LEVEL,
    TARGETS,
    choose_target,
)
from bertrt.errors import ExportError

VALID = [
    ("cpu", None, None, "ort", "float32"),
    ("cpu", "ort", "int8", "ort", "int8"),
    ("any", None, None, "ort", "float32"),
    ("any", "ort", "float32", "ort", "float32"),
    ("any", None, "int8", "ort", "int8"),
    ("cuda", None, None, "triton", "float16"),
    ("cuda", "triton", "bfloat16", "triton", "bfloat16"),
    ("cuda", "triton", "float32", "triton", "float32"),
    ("cuda", "ort", None, "ort", "float16"),
    ("cuda", "ort", "float32", "ort", "float32"),
]
INVALID = [
    ("tpu", None, None, "unknown device 'tpu': choose one of any, cpu, cuda"),
    ("cuda", "tensorrt", None, "unknown engine 'tensorrt': choose one of ort, triton"),
    ("cpu", None, "int4", "unknown dtype 'int4': choose one of float32, int8, float16, bfloat16"),
    ("cpu", "triton", None, "the engine 'triton' runs graphs for the device 'cuda', not 'cpu'"),
    ("any", "triton", None, "the engine 'triton' runs graphs for the device 'cuda', not 'any'"),
    (
        "cuda",
        None,
        "int8",
        "int8 graphs are made for the device 'any' or 'cpu', not for 'cuda' with the engine "
        "'triton'",
    ),
    (
        "cuda",
        "ort",
        "bfloat16",
        "bfloat16 graphs are made for the device 'cuda' with the engine 'triton', not for 'cuda' "
        "with the engine 'ort'",
    ),
    (
        "cpu",
        None,
        "float16",
        "float16 graphs are made for the device 'cuda' with the engine 'ort' or 'cuda' with the "
        "engine 'triton', not for 'cpu'",
    ),
]


@pytest.mark.parametrize(("device", "engine", "dtype", "chosen_engine", "chosen_dtype"), VALID)
def test_valid_targets_and_their_defaults(
    device: str,
    engine: str | None,
    dtype: str | None,
    chosen_engine: str,
    chosen_dtype: str,
) -> None:
    target, chosen = choose_target(device, engine, dtype)
    assert (target.device, target.engine, chosen) == (device, chosen_engine, chosen_dtype)


@pytest.mark.parametrize(("device", "engine", "dtype", "message"), INVALID)
def test_invalid_targets_are_refused(
    device: str, engine: str | None, dtype: str | None, message: str
) -> None:
    with pytest.raises(ExportError) as caught:
        choose_target(device, engine, dtype)
    assert str(caught.value) == message


def test_every_combination_is_valid_or_refused() -> None:
    valid = {(target.device, target.engine, dtype) for target in TARGETS for dtype in target.dtypes}
    for device in DEVICES:
        for engine in ENGINES:
            for dtype in DTYPES:
                if (device, engine, dtype) in valid:
                    assert choose_target(device, engine, dtype)[1] == dtype
                else:
                    with pytest.raises(ExportError):
                        choose_target(device, engine, dtype)


def test_target_names_are_unique() -> None:
    assert list(OPTIMIZATION_LEVEL) == ["any", "cpu", "cuda-triton", "cuda-ort"]
