"""Compiles every kernel, as its launcher would launch it, for a GPU that need not be there.

`python compile_kernels.py 90 float16` prints a line of JSON for each launch in this and other
dtypes that are named, for compute capability 9.0:
{"case", "kernel", "shared", "registers", "stack"}; bytes of shared memory a program, registers
a thread, and bytes that a thread keeps in memory, mostly for want of registers.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bertrt.kernels.launch.configs import Gpu, LinearTiles
from bertrt.kernels.triton import KERNELS, hardware

__all__ = ["main"]

# Multiprocessors and bytes of shared memory that one program may have.
_GPUS = {
    80: ("A100", 108, 163 * 1024),
    89: ("L4", 58, 99 * 1024),
    90: ("H100", 132, 227 * 1024),
}
_DUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class _NoDriver:
    """What the compiler asks of a driver: which GPU it compiles for."""

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
    hardware._INTERPRETED = Gpu(*_GPUS[capability])
    compiled: list[Any] = []
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled.append(launch(self, *args, grid=grid, warmup=True, **options))

    JITFunction.run = compile_only
    for case, name, arguments, options in _cases(dtypes):
        compiled.clear()
        KERNELS[name](*arguments, **options)
        for kernel in compiled:
            used = {"shared": kernel.metadata.shared, **_registers(kernel.asm["cubin"])}
            print(json.dumps({"case": case, "kernel": kernel.name, **used}), flush=True)


def _registers(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_DUMP), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK):(\d+)", text)}
    return {"registers": found["REG"], "stack": found["STACK"]}


def _cases(dtypes: list[str]) -> Iterator[tuple[str, str, tuple[Any, ...], dict[str, Any]]]:
    for dtype in dtypes:
        for case, name, arguments, options in _cases_of(getattr(torch, dtype)):
            yield f"{dtype} {case}", name, arguments, options


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
    sums = torch.empty(4, rows, width)
    yield "partial sums", "AddLayerNorm", (sums, vector, vector, None, x), {}
    yield "rows", "SelectRows", (x, integers(8)), {}
    yield "mean", "MeanRows", (x, integers(5)), {}
    yield "unit", "UnitRows", (x,), {}

    gelu = {"activation": "gelu"}
    yield "gelu 128", "Linear", (x, new(width, 3072), new(3072)), gelu
    options = {"num_heads": 12, "longest": 512}
    yield "512 of 64", "PackedAttention", (new(16384, 3 * width), integers(17)), options
    if dtype == torch.float32:
        # In the launch table float32 is cuBLAS's.
        yield "product", "Linear", (x, new(width, 64)), {"how": LinearTiles(64, 64, 32, 4, 2)}
    if dtype != torch.float16:
        return

    yield "ahead", "Linear", (x, new(width, 64)), {"how": LinearTiles(64, 64, 64, 4, 3)}
    tied = {"transposed": 1, "how": LinearTiles(64, 64, 64, 4, 3)}
    yield "ahead, transposed", "Linear", (x, new(64, width)), tied
    yield "split", "Linear", (x, new(width, width), vector), {"partials": True}
    many = new(16384, width)
    yield "gelu 16384", "Linear", (many, new(width, 3072), new(3072)), gelu
    yield "odd", "Linear", (new(5, 30), new(30, 2), new(2)), {"activation": "tanh"}
    for activation in ("gelu_tanh", "relu", "silu"):
        y = new(rows, 64)
        yield activation, "Linear", (y, new(64, 64)), {"activation": activation, "how": "torch"}

    for size, tokens, longest in ((64, 128, 128), (32, 64, 16), (128, 512, 512), (256, 512, 512)):
        qkv = new(tokens, 3 * 12 * size)
        options = {"num_heads": 12, "longest": longest}
        yield f"{longest} of {size}", "PackedAttention", (qkv, integers(17)), options
    options = {"num_heads": 2, "causal": 1}
    yield "causal, 80, mixed", "PackedAttention", (new(700, 3 * 2 * 80), integers(33)), options


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
