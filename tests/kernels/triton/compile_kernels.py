"""Compile every kernel, as its launcher would launch it, for a GPU that need not be present.

`python compile_kernels.py 90 float16` compiles for compute capability 9.0, in one or more dtypes.
It prints a line of JSON for each launch, {"case", "kernel", "shared", "registers", "stack",
"waits"}: bytes of shared memory per program, registers per thread, stack bytes per thread (mostly
spilled registers), and the number of waits for the kernel before it, of dependent launches.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import test_linear
import test_packed_attention
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bertrt.kernels.launch.configs import Gpu, LinearTiles
from bertrt.kernels.triton import KERNELS, hardware
from bertrt.kernels.triton.dependent_launch import dependent_launches

__all__ = ["main"]

# Compute capability → name, multiprocessors, and bytes of shared memory of one program.
_GPUS = {
    80: ("A100", 108, 163 * 1024),
    89: ("L4", 58, 99 * 1024),
    90: ("H100", 132, 227 * 1024),
}
_CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class _NoDriver:
    """A driver that only tells the compiler which GPU to compile for."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def main(capability: int, dtypes: list[str]) -> None:
    driver.set_active(_NoDriver(capability))
    hardware._INTERPRETER = Gpu(*_GPUS[capability])
    compiled: list[Any] = []
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled.append(launch(self, *args, grid=grid, warmup=True, **options))

    JITFunction.run = compile_only
    for case, name, arguments, options in _cases(dtypes):
        compiled.clear()
        KERNELS[name](*arguments, **options)
        _print(case, compiled)
    if capability >= 90:
        for case, name, arguments, options in _cases(dtypes[:1]):
            compiled.clear()
            with dependent_launches():
                KERNELS[name](*arguments, **options)
            assert all(kernel.metadata.launch_pdl for kernel in compiled)
            _print(f"dependent: {case}", compiled)


def _print(case: str, compiled: list[Any]) -> None:
    for kernel in compiled:
        row = {"case": case, "kernel": kernel.name, "shared": kernel.metadata.shared}
        row |= _read_resources(kernel.asm["cubin"])
        row["waits"] = kernel.asm["ptx"].count("griddepcontrol.wait")
        print(json.dumps(row), flush=True)


def _read_resources(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_CUOBJDUMP), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = {key: int(value) for key, value in re.findall(r"(REG|STACK):(\d+)", text)}
    return {"registers": usage["REG"], "stack": usage["STACK"]}


def _cases(dtypes: list[str]) -> Iterator[tuple[str, str, tuple[Any, ...], dict[str, Any]]]:
    for dtype in dtypes:
        for cases in (_cases_of, _cases_of_tests):
            for case, name, arguments, options in cases(getattr(torch, dtype)):
                yield f"{dtype} {case}", name, arguments, options


def _cases_of_tests(
    dtype: torch.dtype,
) -> Iterator[tuple[str, str, tuple[Any, ...], dict[str, Any]]]:
    """The launches that the tests ask for, which on a GPU are compiled too."""
    offsets = torch.empty(9, dtype=torch.int32)
    for case, tiles in test_packed_attention.TILES.items():
        if tiles is not None:
            max_length = test_packed_attention.MAX_LENGTH if case == "one step" else 1030
            options = {"num_heads": 2, "max_length": max_length, "tiles": tiles}
            qkv = torch.empty(1037, 3 * 2 * 32, dtype=dtype)
            yield f"test: {case}", "PackedAttention", (qkv, offsets), options
    for tiles in (*test_linear.LAUNCHES, test_linear.SPLIT):
        if tiles != "torch":
            x, weight = torch.empty(70, 96, dtype=dtype), torch.empty(96, 80, dtype=dtype)
            yield f"test: {tiles}", "Linear", (x, weight), {"launch": tiles}


def _cases_of(dtype: torch.dtype) -> Iterator[tuple[str, str, tuple[Any, ...], dict[str, Any]]]:
    def new(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    def integers(count: int) -> torch.Tensor:
        return torch.empty(count, dtype=torch.int32)

    width, rows = 768, 128
    vector = new(width)
    table, indices = new(1000, width), integers(rows)
    tables = (indices, indices, indices, table, table, table, vector, vector)
    yield "embeddings", "EmbedLayerNorm", tables, {}
    x = new(rows, width)
    yield "bias and residual", "AddLayerNorm", (x, vector, vector, vector, x), {}
    yield "alone", "AddLayerNorm", (x, vector, vector), {}
    partial_sums = torch.empty(4, rows, width)
    yield "partial sums", "AddLayerNorm", (partial_sums, vector, vector, None, x), {}
    yield "rows", "SelectRows", (x, integers(8)), {}
    for poolings in ("mean", "weightedmean", "mean_sqrt_len_tokens", "max", "cls"):
        yield poolings, "PoolRows", (x, integers(5)), {"poolings": poolings}
    yield "unit", "UnitRows", (x,), {}

    gelu = {"activation": "gelu"}
    yield "gelu 128", "Linear", (x, new(width, 3072), new(3072)), gelu
    options = {"num_heads": 12, "max_length": 512}
    yield "512 of 64", "PackedAttention", (new(16384, 3 * width), integers(17)), options
    if dtype != torch.float32:
        for length, sequences in ((512, 32), (256, 64), (128, 128)):
            options = {"num_heads": 12, "max_length": 512}
            qkv, offsets = new(length * sequences, 3 * width), integers(sequences + 1)
            yield f"512 of 64, mean {length}", "PackedAttention", (qkv, offsets), options
        qkv, offsets = new(3618, 3 * width), integers(129)
        options = {"num_heads": 12, "max_length": 256}
        yield "256 of 64, mean 28", "PackedAttention", (qkv, offsets), options
    if dtype == torch.float32:
        # The launch table uses cuBLAS for float32.
        yield "product", "Linear", (x, new(width, 64)), {"launch": LinearTiles(64, 64, 32, 4, 2)}
    if dtype != torch.float16:
        return

    yield "pipelined", "Linear", (x, new(width, 64)), {"launch": LinearTiles(64, 64, 64, 4, 3)}
    tied = {"transposed": 1, "launch": LinearTiles(64, 64, 64, 4, 3)}
    yield "pipelined, transposed", "Linear", (x, new(64, width)), tied
    yield "split", "Linear", (x, new(width, width), vector), {"partials": True}
    many = new(16384, width)
    yield "gelu 16384", "Linear", (many, new(width, 3072), new(3072)), gelu
    launch = LinearTiles(128, 128, 64, 8, 3)
    yield "two programs", "Linear", (many, new(width, 3072), new(3072)), {**gelu, "launch": launch}
    yield "odd", "Linear", (new(5, 30), new(30, 2), new(2)), {"activation": "tanh"}
    for activation in ("gelu_tanh", "relu", "silu"):
        y = new(rows, 64)
        yield activation, "Linear", (y, new(64, 64)), {"activation": activation, "launch": "torch"}

    for size, tokens, max_length in (
        (64, 128, 128),
        (32, 64, 16),
        (128, 512, 512),
        (256, 512, 512),
    ):
        qkv = new(tokens, 3 * 12 * size)
        options = {"num_heads": 12, "max_length": max_length}
        yield f"{max_length} of {size}", "PackedAttention", (qkv, integers(17)), options
    options = {"num_heads": 12, "max_length": 512}
    inputs = (new(16384, 3 * width), integers(17), new(12, 257), integers(16384))
    yield "bias, 512 of 64", "PackedAttention", inputs, options
    options = {"num_heads": 2, "causal": 1}
    yield "causal, 80, mixed", "PackedAttention", (new(700, 3 * 2 * 80), integers(33)), options


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
