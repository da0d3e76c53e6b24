"""The table of kernels: one for each operator of the device, called as its reference is."""

import inspect

import pytest

from bertrt.kernels.ops import OPERATORS, Place
from bertrt.kernels.triton import KERNELS

ON_DEVICE = [name for name, one in OPERATORS.items() if one.place is Place.DEVICE]


def test_each_operator_of_the_device_has_a_kernel() -> None:
    assert sorted(KERNELS) == sorted(ON_DEVICE)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_a_kernel_is_called_as_its_reference_is(name: str) -> None:
    kernel, reference = KERNELS[name], OPERATORS[name].reference
    assert kernel.__name__ == reference.__name__
    ours = inspect.signature(kernel).parameters
    for parameter in inspect.signature(reference).parameters.values():
        assert ours[parameter.name].kind == parameter.kind
        assert ours[parameter.name].default == parameter.default
    more = [one for one in ours if one not in inspect.signature(reference).parameters]
    assert all(ours[one].kind is inspect.Parameter.KEYWORD_ONLY for one in more)
    assert all(ours[one].default is not inspect.Parameter.empty for one in more)
