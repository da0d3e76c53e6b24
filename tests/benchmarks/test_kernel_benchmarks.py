"""The kernel benchmark and the measured_table script, as far as they go without a GPU."""

import importlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bertrt.kernels.launch import configs, cost_model, measured_table
from bertrt.kernels.launch.configs import AttentionTiles, Gpu, LinearTiles

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
GPU = Gpu("NVIDIA H200", 132, 227 * 1024)


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by their own names."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("name", ["gpu_kernels.py", "tune_kernels.py"])
def test_without_a_gpu_they_say_so(name: str) -> None:
    command = [sys.executable, str(FOLDER / name)]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{name}: needs an NVIDIA GPU, and PyTorch finds none here\n"
    assert done.stdout == ""


@pytest.mark.parametrize("lengths", [[5, 5], [9, 1, 4]])
def test_every_case_is_what_pytorch_does(lengths: list[int], device: str) -> None:
    bench, size = script("gpu_cases"), script("gpu_cases").Size(32, 2, 48)
    found = set()
    for case in bench.cases(size, lengths, device, torch.float16):
        found.add(case.kernel)
        ours, torchs = case.ours().float(), case.torchs().float()
        assert ours.shape == torchs.shape
        assert (ours - torchs).square().mean().sqrt() < 0.02 * torchs.square().mean().sqrt()
        assert case.bytes > 0
    assert len(found) == 10


def test_a_wrong_answer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = script("gpu_kernels")
    monkeypatch.setattr(bench, "median_us", lambda run: pytest.fail("timed"))
    one, nan = torch.ones(3), torch.full((3,), torch.nan)
    for wrong in (0 * one, nan):
        row = bench.measure(bench.Case("x", lambda wrong=wrong: wrong, lambda: one, 10, 0))
        assert row["right"] is False
        assert "us" not in row
        assert "wrong" in bench._line({"batch": "1x1", **row})


def test_rates_are_beside_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = script("gpu_kernels")
    monkeypatch.setattr(bench, "median_us", lambda run: 10.0)
    row = bench.measure(bench.Case("x", lambda: torch.ones(1), lambda: torch.ones(1), 10**7, 10**9))
    limits = bench._limits(row, {"copy_gb_s": 4000.0, "matmul_tflop_s": 800.0})
    assert limits == {"gb_s": 1000.0, "of_copy": 0.25, "tflop_s": 100.0, "of_matmul": 0.125}
    line = bench._line({"batch": "1x1", **row, **limits})
    assert line.count("|") == len(bench._COLUMNS) + 1


def test_what_is_tuned_is_what_the_table_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry measured under a job's key is found by a launch of the job's sizes."""
    for job in script("tune_sizes").jobs(GPU):
        layer, last = job.key[:-1], job.key[-1]
        mark = LinearTiles(16, 16, 16, 1, 1)
        if job.table == "ATTENTION":
            mark = AttentionTiles(16, 16, 1, 1)
            monkeypatch.setattr(measured_table, "ATTENTION", {GPU.name: {job.key: mark}})
            tokens = 16384 if job.busy else job.longest
            assert measured_table.attention(GPU, tokens, 12, job.head_size, job.longest, 2) is mark
            assert all(max(one.block_m, one.block_n) <= job.longest for one in job._tiles())
            continue
        monkeypatch.setattr(measured_table, job.table, {GPU.name: {layer: {last: mark}}})
        sizes = (GPU, job.rows, job.depth, job.columns, 2)
        if job.table == "LINEAR":
            assert measured_table.linear(*sizes, job.kind == "gelu") is mark
        else:
            assert measured_table.split_linear(*sizes) is mark


def test_tuning_takes_the_fastest_and_writes_all(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune, sizes = script("tune_kernels"), script("tune_sizes")
    jobs = [
        sizes.Product(GPU, "plain", 32, 64, 48),
        sizes.Product(GPU, "gelu", 32, 64, 48),
        sizes.Product(GPU, "norm", 16, 256, 48),
        sizes.Attention(GPU, 32, 16, False),
    ]
    monkeypatch.setattr(tune, "jobs", lambda gpu: jobs)
    times = iter([10.0, 9.9, 5.0, *[20.0] * 1000])

    def median(run: object, milliseconds: int) -> float:
        run()  # type: ignore[operator]
        return next(times)

    monkeypatch.setattr(tune, "median_us", median)
    file = io.StringIO()
    with torch.inference_mode():
        best = tune.tune(torch.device(device), time.monotonic() + 600, {"gpu": "none"}, file)
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert rows[0] == {"gpu": "none", "table": "LINEAR", "key": [64, 48, False, 32],
                       "launch": "torch", "us": 10.0}  # fmt: skip
    # The third launch of the first product won; the second's were all alike.
    assert best["LINEAR"][64, 48, False, 32] == cost_model.candidates(GPU, 32, 64, 48, 2)[1]
    assert best["LINEAR"][64, 48, True, 32] == "torch"
    assert best["SPLIT_LINEAR"][256, 48, 16].splits == 1
    # What is printed can be pasted.
    pasted: dict[str, dict[str, dict[object, object]]] = {key: {} for key in best}
    exec(tune.table(GPU.name, best), vars(configs) | pasted)
    assert pasted["ATTENTION"][GPU.name] == best["ATTENTION"]
    assert pasted["LINEAR"][GPU.name] == {
        (64, 48, activated): {32: best["LINEAR"][64, 48, activated, 32]}
        for activated in (False, True)
    }


def test_tuning_stops_in_time(device: str) -> None:
    tune = script("tune_kernels")
    assert tune.tune(torch.device(device), time.monotonic() - 1, {}, io.StringIO()) == {}


def test_a_plain_product_is_cublas_unless_clearly_beaten() -> None:
    product = script("tune_sizes").Product(GPU, "plain", 32, 64, 48)
    tiles = LinearTiles(16, 16, 16, 1, 1)
    assert product.choose({"torch": 10.0, tiles: 9.9}, 0.98) == "torch"
    assert product.choose({"torch": 10.0, tiles: 9.0}, 0.98) == tiles


def test_sums_are_split_where_that_beats_every_whole_product() -> None:
    product = script("tune_sizes").Product(GPU, "norm", 32, 64, 48)
    whole, split = LinearTiles(16, 16, 16, 1, 1), LinearTiles(16, 16, 16, 1, 1, splits=2)
    assert product.choose({"torch": 8.0, whole: 9.0, split: 7.0}, 0.98) == split
    assert product.choose({"torch": 6.0, whole: 9.0, split: 7.0}, 0.98) == whole
    assert product.choose({"torch": 6.0, whole: 9.0}, 0.98) == whole
