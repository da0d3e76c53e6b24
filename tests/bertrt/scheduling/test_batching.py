"""Batches: each row once, similar lengths, no batch over the budget; and the budget itself."""

import random
from pathlib import Path
from typing import Any

import pytest

from bertrt.errors import InputError
from bertrt.scheduling.batching import choose_budget, plan


@pytest.mark.parametrize("seed", range(5))
def test_plan_sorts_rows_and_keeps_to_the_budget(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [min(512, int(draw.lognormvariate(3, 1)) + 1) for _ in range(draw.randrange(1, 300))]
    batches = plan(lengths, budget=256)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= 256 or len(batch) == 1
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(order)


def test_no_rows_make_no_batches() -> None:
    assert plan([], budget=256) == []


def write_caches(root: Path, size: str = "1024K", shared: str = "0") -> Path:
    """Return a fake root whose second-level cache has a size and is shared by some CPUs."""
    rows = [(1, "32K", "0"), (1, "32K", "0"), (2, size, shared), (3, "32768K", "0-7")]
    for index, (level, bytes_, cpus) in enumerate(rows):
        folder = root / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("size", bytes_), ("shared_cpu_list", cpus)):
            (folder / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("hidden", "threads", "size", "shared", "expected"),
    [
        (768, 2, "1024K", "0", 256),  # BERT-base, where it was measured
        (384, 2, "1024K", "0", 512),  # a MiniLM
        (1024, 2, "1024K", "0", 256),  # BERT-large
        (768, 2, "1M", "0", 256),
        (768, 2, "512K", "0", 128),
        (768, 4, "1024K", "0,64", 256),  # two threads of a core have one cache
        (768, 2, "1024K", "0,64", 128),
        (768, 3, "1024K", "0-3", 128),
        (768, 64, "2048K", "0", 1024),
        (128, 2, "256K", "0", 512),
        (32, 2, "1048576", "0", 1024),
    ],
)
def test_auto_fits_the_second_level_cache(
    tmp_path: Path, hidden: int, threads: int, size: str, shared: str, expected: int
) -> None:
    chosen = choose_budget(
        "auto", hidden_size=hidden, threads=threads, root=write_caches(tmp_path, size, shared)
    )
    assert chosen.tokens == expected
    assert "second-level cache" in chosen.reason
    assert f"hidden size {hidden}" in chosen.reason


@pytest.mark.parametrize(("hidden", "size"), [(768, "1024K"), (32, "2M"), (1024, "")])
def test_auto_for_one_thread(tmp_path: Path, hidden: int, size: str) -> None:
    chosen = choose_budget("auto", hidden_size=hidden, threads=1, root=write_caches(tmp_path, size))
    assert (chosen.tokens, chosen.reason) == (256, "fastest for one thread")


@pytest.mark.parametrize("size", ["", "lots"])
def test_auto_without_known_caches(tmp_path: Path, size: str) -> None:
    missing = choose_budget("auto", hidden_size=768, threads=2, root=tmp_path)
    assert (missing.tokens, missing.reason) == (
        256,
        "the sizes of this machine's caches are not known",
    )
    damaged = choose_budget("auto", hidden_size=768, threads=2, root=write_caches(tmp_path, size))
    assert damaged == missing


def test_auto_for_a_gpu(tmp_path: Path) -> None:
    budget = choose_budget(hidden_size=768, threads=2, device="cuda", root=tmp_path)
    assert (budget.tokens, budget.reason) == (16384, "large batches fill a GPU")
    assert choose_budget(9, hidden_size=768, threads=2, device="cuda").tokens == 9


def test_a_given_number_is_used(tmp_path: Path) -> None:
    chosen = choose_budget(1, hidden_size=768, threads=2, root=write_caches(tmp_path))
    assert (chosen.tokens, chosen.reason) == (1, "chosen by the caller")


@pytest.mark.parametrize("tokens", [0, -1, 2.5, True, "many", None])
def test_other_values_are_refused(tokens: Any) -> None:
    with pytest.raises(InputError, match=r"max_batch_tokens is .*'auto'"):
        choose_budget(tokens, hidden_size=768, threads=2)
