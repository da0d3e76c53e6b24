"""Test the launch table and the cost model: launches fit the GPU and the sizes."""

import dataclasses
import itertools
import subprocess
import sys

import pytest

from bertrt.kernels.launch import cost_model, measured_table
from bertrt.kernels.launch.configs import AttentionTiles, Gpu, LinearTiles, next_power_of_two

H200 = Gpu("NVIDIA H200", 132, 227 * 1024)
L4 = Gpu("NVIDIA L4", 58, 99 * 1024)
ROWS = [1, 2, 16, 17, 100, 128, 300, 1024, 4096, 16384, 65536]
# Depths and widths of BERT-base, BERT-large and MiniLM layers, of a vocabulary and of a head.
LAYERS = [(768, 2304), (768, 768), (3072, 768), (1024, 4096), (384, 1536), (768, 30522), (768, 2)]
ODD = [(30, 30), (16, 1), (1000, 50)]


def test_sizes_are_rounded_up_to_powers_of_two() -> None:
    assert [next_power_of_two(n) for n in (0, 1, 16, 17, 32, 33, 512, 513)] == [
        16, 16, 16, 32, 32, 64, 512, 1024
    ]  # fmt: skip


@pytest.mark.parametrize("gpu", [H200, L4], ids=lambda gpu: gpu.name)
@pytest.mark.parametrize(("depth", "columns"), LAYERS + ODD)
def test_estimated_products_can_be_launched(gpu: Gpu, depth: int, columns: int) -> None:
    for rows in ROWS:
        whole = cost_model.choose_linear(gpu, rows, depth, columns, 2, True)
        split = cost_model.choose_split_linear(gpu, rows, depth, columns, 2)
        assert isinstance(whole, LinearTiles)
        assert whole.splits == 1
        for tiles in (whole, split):
            step = (tiles.block_m + tiles.block_n) * tiles.block_k * 2
            assert step * tiles.stages <= gpu.shared_memory
            assert tiles.block_m <= next_power_of_two(rows)
            assert min(tiles.block_m, tiles.block_n, tiles.block_k) >= 16
            assert tiles.splits == 1 or tiles.splits * tiles.block_k <= depth


def test_small_products_are_split_and_large_ones_are_not() -> None:
    # 128 rows by 768 columns are only 24 tiles of 64 by 64, for 132 multiprocessors.
    assert cost_model.choose_split_linear(H200, 128, 768, 768, 2).splits > 1
    assert cost_model.choose_split_linear(H200, 128, 3072, 768, 2).splits > 1
    assert cost_model.choose_split_linear(H200, 16384, 3072, 768, 2).splits == 1


def test_two_programs_may_share_a_multiprocessor() -> None:
    launch = LinearTiles(128, 128, 64, 8, 3)
    assert 2 * (128 + 128) * 64 * 2 * launch.stages <= H200.shared_memory
    for rows, depth, columns in ((16384, 768, 3072), (4096, 1024, 4096), (128, 768, 2304)):
        candidates = cost_model.linear_candidates(H200, rows, depth, columns, 2)
        # As estimated as with four stages, which stays the choice.
        assert candidates.index(launch) == candidates.index(LinearTiles(128, 128, 64, 8, 4)) + 1
    on_l4 = cost_model.linear_candidates(L4, 16384, 768, 3072, 2)
    assert len(set(on_l4)) == len(on_l4)
    assert launch in on_l4


def test_large_plain_products_and_float32_use_cublas() -> None:
    assert cost_model.choose_linear(H200, 16384, 768, 2304, 2, False) == "torch"
    assert cost_model.choose_linear(H200, 128, 768, 2304, 4, True) == "torch"


def test_estimated_attention_can_be_launched() -> None:
    lengths = (1, 16, 40, 64, 128, 512, 2000)
    for head_size, mean, longest, itemsize, programs in itertools.product(
        (8, 32, 64, 80, 128, 256), lengths, lengths, (2, 4), (1, 10_000)
    ):
        tiles = cost_model.choose_attention(
            H200, programs, head_size, min(mean, longest), longest, itemsize
        )
        assert min(tiles.block_m, tiles.block_n) >= 16
        assert tiles.block_m * 32 >= tiles.warps * 32
        loaded = 2 * tiles.block_n * tiles.stages + tiles.block_m
        assert loaded * next_power_of_two(head_size) * itemsize <= L4.shared_memory


def test_a_long_sequence_among_short_ones_does_not_decide() -> None:
    def choose(tokens: int, sequences: int, longest: int) -> AttentionTiles:
        return measured_table.choose_attention(H200, tokens, sequences, 12, 64, longest, 2)

    mixed = choose(3618, 128, 256)
    assert mixed.block_m <= 64
    assert choose(3618, 128, 512) == mixed
    # A bucket's numbers: no sequence more than there are, or almost twice as many.
    long = AttentionTiles(128, 64, 8, 3)
    assert choose(16384, 32, 512) == choose(33 * 512, 64, 512) == long
    assert choose(16384, 128, 512) == AttentionTiles(128, 64, 4, 3)


def test_measured_launches_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    product, sums = LinearTiles(32, 32, 32, 4, 2), LinearTiles(16, 16, 16, 4, 2, splits=5)
    blocks = AttentionTiles(32, 32, 2, 1)
    monkeypatch.setattr(measured_table, "LINEAR", {H200.name: {(768, 768, True): {128: product}}})
    monkeypatch.setattr(measured_table, "SPLIT_LINEAR", {H200.name: {(768, 768): {128: sums}}})
    monkeypatch.setattr(measured_table, "ATTENTION", {H200.name: {(64, 32, 128, True): blocks}})
    for rows in (65, 100, 128):
        assert measured_table.choose_linear(H200, rows, 768, 768, 2, True) == product
        assert measured_table.choose_split_linear(H200, rows, 768, 768, 2) == sums
    for sequences in (600, 820, 1000):  # 28, 20 and 17 tokens in the mean
        assert measured_table.choose_attention(H200, 16384, sequences, 12, 64, 100, 2) == blocks
    # Other sizes, dtypes and GPUs are estimated.
    assert measured_table.choose_linear(H200, 129, 768, 768, 2, True) != product
    assert measured_table.choose_linear(H200, 128, 768, 768, 4, True) != product
    assert measured_table.choose_linear(L4, 128, 768, 768, 2, True) != product
    assert measured_table.choose_split_linear(L4, 128, 768, 768, 2) != sums
    assert measured_table.choose_attention(H200, 128, 4, 12, 64, 100, 2) != blocks
    assert measured_table.choose_attention(H200, 16384, 300, 12, 64, 100, 2) != blocks
    assert measured_table.choose_attention(H200, 16384, 600, 12, 64, 100, 4) != blocks


def test_a_size_is_estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = []
    linear_candidates = cost_model.linear_candidates

    def record(gpu: Gpu, *sizes: int, split: bool = False) -> list[LinearTiles]:
        estimated.append((gpu.name, *sizes, split))
        return linear_candidates(gpu, *sizes, split=split)

    monkeypatch.setattr(cost_model, "linear_candidates", record)
    gpus = [dataclasses.replace(gpu, name=f"{gpu.name}, never seen before") for gpu in (H200, L4)]
    for gpu, rows, _ in itertools.product(gpus, (100, 200), range(3)):
        measured_table.choose_linear(gpu, rows, 768, 3072, 2, True)
        measured_table.choose_split_linear(gpu, rows, 3072, 768, 2)
    assert estimated == [
        (gpu.name, rows, depth, columns, 2, split)
        for gpu, rows in itertools.product(gpus, (100, 200))
        for depth, columns, split in ((768, 3072, False), (3072, 768, True))
    ]


def test_a_measured_launch_replaces_an_estimate_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (H200, 128, 768, 768, 2)
    estimate = measured_table.choose_linear(*sizes, True)
    product = LinearTiles(32, 32, 32, 4, 2)
    with monkeypatch.context() as patch:
        patch.setattr(measured_table, "LINEAR", {H200.name: {(768, 768, True): {128: product}}})
        assert measured_table.choose_linear(*sizes, True) == product != estimate
    assert measured_table.choose_linear(*sizes, True) == estimate


def test_the_table_needs_no_torch() -> None:
    module = "bertrt.kernels.launch.measured_table"
    code = f"import sys, {module}; print({{'torch', 'triton'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
