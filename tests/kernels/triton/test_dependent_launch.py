"""Test that dependent launches are off, and that a kernel which is launched early waits first."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable

import pytest
import torch

import bertrt.kernels.triton
from bertrt.kernels.triton import KERNELS
from bertrt.kernels.triton.dependent_launch import dependent_launches, launch_options


def test_they_are_off_unless_asked_for() -> None:
    assert launch_options() == {"DEPENDENT": False}
    with dependent_launches():
        assert launch_options() == {"DEPENDENT": True, "launch_pdl": True}
    assert launch_options() == {"DEPENDENT": False}


def test_every_kernel_waits_before_anything_else() -> None:
    """One that read or wrote first would race with the kernel before it."""
    found = []
    for module in pkgutil.iter_modules(bertrt.kernels.triton.__path__):
        names = vars(importlib.import_module(f"bertrt.kernels.triton.{module.name}"))
        for name, kernel in names.items():
            if not (name.endswith("_kernel") and hasattr(kernel, "fn")):
                continue
            found.append(name)
            (function,) = ast.parse(textwrap.dedent(inspect.getsource(kernel.fn))).body
            assert isinstance(function, ast.FunctionDef)
            assert ast.unparse(function.body[0]) == "wait_for_predecessor(DEPENDENT)", name
    assert len(found) == len(KERNELS) + 2  # activations after cuBLAS, and attention's map of blocks


@pytest.mark.gpu
def test_a_chain_of_kernels_gives_the_same(
    device: str, normal: Callable[..., torch.Tensor]
) -> None:
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("dependent launches need compute capability 9.0")
    x, weight = normal(512, 768, dtype=torch.float16), normal(768, 768, dtype=torch.float16) / 28
    gamma, beta = normal(768, dtype=torch.float16), normal(768, dtype=torch.float16)

    def run() -> torch.Tensor:
        y = x
        for _ in range(6):
            wide = KERNELS["Linear"](y, weight, gamma, activation="gelu")
            parts = KERNELS["Linear"](wide, weight, partials=True)
            y = KERNELS["AddLayerNorm"](parts, gamma, beta, None, y)
        return y

    expected = run()
    with dependent_launches():
        for _ in range(20):
            assert torch.equal(run(), expected)
