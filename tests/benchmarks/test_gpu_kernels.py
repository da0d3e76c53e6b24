"""The kernel comparison and the tuning script, as far as they can be tested without a GPU."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import cases, compare_kernels, tune_kernels, tuning_jobs
from bertrt.kernels.launch import configs, cost_model, measured_table
from bertrt.kernels.launch.configs import AttentionTiles, Gpu, LinearTiles

ROOT = Path(__file__).resolve().parents[2]
GPU = Gpu("NVIDIA H200", 132, 227 * 1024)


@pytest.mark.parametrize("name", ["compare_kernels", "tune_kernels"])
def test_the_commands_need_a_gpu(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"{name}.py: needs an NVIDIA GPU, and PyTorch finds none here\n"
    assert done.stdout == ""


@pytest.mark.parametrize("lengths", [[5, 5], [9, 1, 4]])
def test_every_case_computes_the_same_as_pytorch(lengths: list[int], device: str) -> None:
    size = cases.Size(32, 2, 48)
    found = set()
    for case in cases.cases(size, lengths, device, torch.float16):
        found.add(case.kernel)
        ours, expected = case.run_ours().float(), case.run_torch().float()
        assert ours.shape == expected.shape
        assert (ours - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()
        assert case.bytes > 0
    assert len(found) == 10


def test_a_wrong_answer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_kernels, "median_us", lambda run: pytest.fail("timed"))
    ones, nan = torch.ones(3), torch.full((3,), torch.nan)
    for wrong in (0 * ones, nan):
        row = compare_kernels.measure(
            cases.Case("x", lambda wrong=wrong: wrong, lambda: ones, 10, 0)
        )
        assert row["right"] is False
        assert "us" not in row
        assert "wrong" in compare_kernels._line({"batch": "1x1", **row})


def test_a_kernel_that_fails_costs_only_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> torch.Tensor:
        raise RuntimeError("an illegal memory access\nmore about it")

    def fine() -> torch.Tensor:
        return torch.ones(1)

    made = [cases.Case("a", fail, fine, 10), cases.Case("b", fine, fine, 10)]
    monkeypatch.setattr(compare_kernels, "cases", lambda *_: iter(made))
    monkeypatch.setattr(compare_kernels, "median_us", lambda run: 10.0)
    gpu = {"copy_gb_s": 4000.0, "matmul_tflop_s": 800.0}
    failed, timed = compare_kernels.compare(cases.Size(32, 2, 48), [5], torch.float16, gpu)
    assert failed["failure"] == "RuntimeError: an illegal memory access\nmore about it"
    assert failed["right"] is False
    assert compare_kernels._line({"batch": "1x1", **failed}).endswith("illegal memory access |")
    assert timed["right"]
    assert timed["us"] == 10.0


def test_rates_are_compared_with_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_kernels, "median_us", lambda run: 10.0)
    row = compare_kernels.measure(
        cases.Case("x", lambda: torch.ones(1), lambda: torch.ones(1), 10**7, 10**9)
    )
    limits = compare_kernels._limits(row, {"copy_gb_s": 4000.0, "matmul_tflop_s": 800.0})
    assert limits == {"gb_s": 1000.0, "of_copy": 0.25, "tflop_s": 100.0, "of_matmul": 0.125}
    line = compare_kernels._line({"batch": "1x1", **row, **limits})
    assert line.count("|") == len(compare_kernels._COLUMNS) + 1


def test_tuned_sizes_are_the_ones_that_launches_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch of a job's sizes finds the entry measured under the job's key."""
    for job in tuning_jobs.jobs(GPU):
        layer, last = job.key[:-1], job.key[-1]
        entry = LinearTiles(16, 16, 16, 1, 1)
        if job.table == "ATTENTION":
            entry = AttentionTiles(16, 16, 1, 1)
            monkeypatch.setattr(measured_table, "ATTENTION", {GPU.name: {job.key: entry}})
            lengths = job.lengths
            assert max(lengths) == job.longest
            assert sum(lengths) == job.mean * len(lengths)
            assert min(lengths) >= 1
            assert sum(lengths) <= 16384
            sizes = (sum(lengths), len(lengths), 12, job.head_size, job.longest, 2)
            assert measured_table.choose_attention(GPU, *sizes) is entry
            assert all(max(tiles.block_m, tiles.block_n) <= job.longest for tiles in job._tiles())
            continue
        monkeypatch.setattr(measured_table, job.table, {GPU.name: {layer: {last: entry}}})
        sizes = (GPU, job.rows, job.depth, job.columns, 2)
        if job.table == "LINEAR":
            assert measured_table.choose_linear(*sizes, job.kind == "gelu") is entry
        else:
            assert measured_table.choose_split_linear(*sizes) is entry


def test_tuning_selects_the_fastest_and_writes_all_times(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        tuning_jobs.Product(GPU, "plain", 32, 64, 48),
        tuning_jobs.Product(GPU, "gelu", 32, 64, 48),
        tuning_jobs.Product(GPU, "norm", 16, 256, 48),
        tuning_jobs.Attention(GPU, 32, 16, 16, False),
    ]
    times = iter([10.0, 9.9, 5.0, *[20.0] * 1000])

    def median(run: object, milliseconds: int) -> float:
        run()  # type: ignore[operator]
        return next(times)

    monkeypatch.setattr(tune_kernels, "median_us", median)
    file = io.StringIO()
    best = tune_kernels.tune(
        jobs, torch.device(device), time.monotonic() + 600, {"gpu": "none"}, file
    )
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert rows[0] == {"gpu": "none", "table": "LINEAR", "key": [64, 48, False, 32],
                       "launch": "torch", "us": 10.0}  # fmt: skip
    # The third launch of the first product was the fastest; those of the second were equal.
    assert best["LINEAR"][64, 48, False, 32] == cost_model.linear_candidates(GPU, 32, 64, 48, 2)[1]
    assert best["LINEAR"][64, 48, True, 32] == "torch"
    assert best["SPLIT_LINEAR"][256, 48, 16].splits == 1
    # The printed table can be pasted.
    pasted: dict[str, dict[str, dict[object, object]]] = {key: {} for key in best}
    exec(tune_kernels.table(GPU.name, best), vars(configs) | pasted)
    assert pasted["ATTENTION"][GPU.name] == best["ATTENTION"]
    assert pasted["LINEAR"][GPU.name] == {
        (64, 48, activated): {32: best["LINEAR"][64, 48, activated, 32]}
        for activated in (False, True)
    }


def test_tuning_stops_at_the_deadline(device: str) -> None:
    jobs = [tuning_jobs.Product(GPU, "plain", 32, 64, 48)]
    deadline = time.monotonic() - 1
    assert tune_kernels.tune(jobs, torch.device(device), deadline, {}, io.StringIO()) == {}


def test_a_launch_that_fails_is_not_chosen(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = cost_model.linear_candidates(GPU, 32, 64, 48, 2)
    calls = iter(range(1000))

    def median(run: object, milliseconds: int) -> float:
        number = next(calls)
        if number == 1 or number > len(launches):
            raise RuntimeError("PassManager::run failed")
        return 100.0 - number

    monkeypatch.setattr(tune_kernels, "median_us", median)
    sizes = [tuning_jobs.Product(GPU, "plain", rows, 64, 48) for rows in (32, 64)]
    file = io.StringIO()
    best = tune_kernels.tune(sizes, torch.device(device), time.monotonic() + 600, {}, file)
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert rows[1]["failure"] == "RuntimeError: PassManager::run failed"
    assert "us" not in rows[1]
    # All launches of the second size failed, so it gets no entry.
    assert best == {"LINEAR": {(64, 48, False, 32): launches[-1]}}


def test_a_plain_product_uses_cublas_unless_clearly_beaten() -> None:
    product = tuning_jobs.Product(GPU, "plain", 32, 64, 48)
    tiles = LinearTiles(16, 16, 16, 1, 1)
    assert product.choose({"torch": 10.0, tiles: 9.9}, 0.98) == "torch"
    assert product.choose({"torch": 10.0, tiles: 9.0}, 0.98) == tiles


def test_sums_are_split_only_if_that_beats_every_whole_product() -> None:
    product = tuning_jobs.Product(GPU, "norm", 32, 64, 48)
    whole, split = LinearTiles(16, 16, 16, 1, 1), LinearTiles(16, 16, 16, 1, 1, splits=2)
    assert product.choose({"torch": 8.0, whole: 9.0, split: 7.0}, 0.98) == split
    assert product.choose({"torch": 6.0, whole: 9.0, split: 7.0}, 0.98) == whole
    assert product.choose({"torch": 6.0, whole: 9.0}, 0.98) == whole
