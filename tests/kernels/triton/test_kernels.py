"""Test the table of kernels: every DEVICE operator has one, with its reference's signature."""

import inspect

import pytest

from bertrt.kernels.ops.operator import Stage
from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

ON_DEVICE = [name for name, op in OPERATORS.items() if op.stage is Stage.DEVICE]


def test_every_device_operator_has_a_kernel() -> None:
    assert sorted(KERNELS) == sorted(ON_DEVICE)


@pytest.mark.parametrize("op_type", ON_DEVICE)
def test_a_kernel_has_the_signature_of_its_reference(op_type: str) -> None:
    kernel, reference = KERNELS[op_type], OPERATORS[op_type].reference
    assert kernel.__name__ == reference.__name__
    parameters = inspect.signature(kernel).parameters
    for parameter in inspect.signature(reference).parameters.values():
        assert parameters[parameter.name].kind == parameter.kind
        assert parameters[parameter.name].default == parameter.default
    extra = [name for name in parameters if name not in inspect.signature(reference).parameters]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in extra)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in extra)
