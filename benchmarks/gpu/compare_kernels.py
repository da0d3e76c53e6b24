"""Compare each Triton kernel with PyTorch and the GPU's limits.

Run `python -m benchmarks.gpu.compare_kernels`. It prints a table, and adds a row of JSON for each
kernel and batch to a results file. Answers are compared with PyTorch's before anything is timed.
Times are medians with a cold cache inside CUDA graphs: no work of the host is counted. A kernel
that fails gets a row that says why.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.batches import BATCHES
from benchmarks.gpu.cases import SIZES, Case, Size, cases
from benchmarks.gpu.limits import describe_gpu
from benchmarks.gpu.timing import kernel_device, median_us

__all__ = ["compare", "main", "measure"]

_RESULTS = Path(__file__).resolve().parents[2] / "out" / "benchmarks" / "gpu_kernels.jsonl"
_COLUMNS = ("batch", "kernel", "µs", "PyTorch µs", "times", "GB/s", "of copy", "TFLOP/s", "of mm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=["BERT-base", "BERT-large"])
    parser.add_argument("--batches", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="file to add rows to")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(
            "compare_kernels.py: needs an NVIDIA GPU, and PyTorch finds none here", file=sys.stderr
        )
        return 1
    dtype = getattr(torch, options.dtype)
    gpu = describe_gpu()
    print(f"{gpu['gpu']}, {options.dtype}: copies {gpu['copy_gb_s']} GB/s, ", end="")
    print(f"multiplies matrices at {gpu['matmul_tflop_s']} TFLOP/s")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    wrong = 0
    # Line by line, so that a crash loses no row.
    with options.results.open("a", encoding="utf-8", buffering=1) as file:
        for model in options.models:
            print(f"\n**{model}**\n\n| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}")
            for batch in options.batches:
                for found in compare(SIZES[model], BATCHES[batch], dtype, gpu):
                    row = {"model": model, "batch": batch, "dtype": options.dtype, **found}
                    wrong += not row["right"]
                    print(_line(row), flush=True)
                    file.write(json.dumps({**gpu, **row}) + "\n")
    return 1 if wrong else 0


def compare(
    size: Size, lengths: list[int], dtype: torch.dtype, gpu: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each kernel on sequences of these lengths, with its share of the limits.

    `gpu` is what `describe_gpu` returned. A kernel that fails gets a row with a `failure`.
    """
    with torch.inference_mode():
        for case in cases(size, lengths, str(kernel_device()), dtype):
            try:
                row = measure(case)
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                row = {"kernel": case.kernel, "right": False, "failure": failure}
            yield row | _limits(row, gpu)


def measure(case: Case) -> dict[str, Any]:
    """Compare both answers to half precision, and time both if they agree."""
    row = {"kernel": case.kernel, "bytes": case.bytes, "flops": case.flops}
    ours, reference = case.run_ours().float(), case.run_torch().float()
    error = (ours - reference).square().mean().sqrt() / reference.square().mean().sqrt()
    if not error < 0.02:
        return {**row, "right": False, "error": float(error)}
    return {
        **row,
        "right": True,
        "error": float(error),
        "us": median_us(case.run_ours),
        "torch_us": median_us(case.run_torch),
    }


def _limits(row: dict[str, Any], gpu: dict[str, Any]) -> dict[str, float]:
    if not row["right"]:
        return {}
    gb_s, tflop_s = row["bytes"] / row["us"] / 1e3, row["flops"] / row["us"] / 1e6
    return {
        "gb_s": gb_s,
        "of_copy": gb_s / gpu["copy_gb_s"],
        "tflop_s": tflop_s,
        "of_matmul": tflop_s / gpu["matmul_tflop_s"],
    }


def _line(row: dict[str, Any]) -> str:
    begin = f"| {row['batch']} | {row['kernel']} |"
    if "failure" in row:
        return f"{begin} failed: {row['failure'].splitlines()[0]} |"
    if not row["right"]:
        return f"{begin} wrong: error {row['error']:.3g} |"
    rates = f"{row['gb_s']:.0f} | {row['of_copy']:.0%} |"
    if row["flops"]:
        rates += f" {row['tflop_s']:.1f} | {row['of_matmul']:.0%} |"
    else:
        rates += " | |"
    times = f"{row['us']:.1f} | {row['torch_us']:.1f} | {row['torch_us'] / row['us']:.2f}"
    return f"{begin} {times} | {rates}"


if __name__ == "__main__":
    sys.exit(main())
