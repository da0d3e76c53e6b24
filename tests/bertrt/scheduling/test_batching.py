"""Batches: every row once, lengths alike, no batch over the budget; and the budget itself."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt.errors import InputError
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.batching import choose_budget, plan


@pytest.mark.parametrize("seed", range(5))
def test_plan(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [min(512, int(draw.lognormvariate(3, 1)) + 1) for _ in range(draw.randrange(1, 300))]
    batches = plan(lengths, budget=256)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= 256 or len(batch) == 1
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(order)


def test_plan_of_nothing() -> None:
    assert plan([], budget=256) == []


def caches(root: Path, size: str = "1024K", shared: str = "0") -> Path:
    """A fake root whose second-level cache has a size and is shared by some CPUs."""
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
def test_auto(
    tmp_path: Path, hidden: int, threads: int, size: str, shared: str, expected: int
) -> None:
    chosen = choose_budget(
        "auto", hidden_size=hidden, threads=threads, root=caches(tmp_path, size, shared)
    )
    assert chosen.tokens == expected
    assert "second-level cache" in chosen.reason
    assert f"hidden size {hidden}" in chosen.reason


@pytest.mark.parametrize(("hidden", "size"), [(768, "1024K"), (32, "2M"), (1024, "")])
def test_one_thread(tmp_path: Path, hidden: int, size: str) -> None:
    chosen = choose_budget("auto", hidden_size=hidden, threads=1, root=caches(tmp_path, size))
    assert (chosen.tokens, chosen.reason) == (256, "what one thread computes best at a time")


@pytest.mark.parametrize("size", ["", "lots"])
def test_caches_that_are_not_known(tmp_path: Path, size: str) -> None:
    nothing = choose_budget("auto", hidden_size=768, threads=2, root=tmp_path)
    assert (nothing.tokens, nothing.reason) == (256, "the caches of this machine are not known")
    damaged = choose_budget("auto", hidden_size=768, threads=2, root=caches(tmp_path, size))
    assert damaged == nothing


def test_the_callers_number_wins(tmp_path: Path) -> None:
    chosen = choose_budget(1, hidden_size=768, threads=2, root=caches(tmp_path))
    assert (chosen.tokens, chosen.reason) == (1, "chosen by the caller")


@pytest.mark.parametrize("tokens", [0, -1, 2.5, True, "many", None])
def test_refuses(tokens: Any) -> None:
    with pytest.raises(InputError, match=r"max_batch_tokens is .*'auto'"):
        choose_budget(tokens, hidden_size=768, threads=2)


def test_the_runtime_keeps_to_its_budget(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = BatchRunner.run

    def run(self: BatchRunner, *args: Any, **arrays: Any) -> Any:
        sizes.append(arrays["input_ids"].size)
        return original(self, *args, **arrays)

    monkeypatch.setattr(BatchRunner, "run", run)
    texts = [f"{'the cat ' * n}[MASK]" for n in range(20)]
    with bertrt.load(make_artifact("BertForMaskedLM"), threads=1, max_batch_tokens=50) as rt:
        assert rt.info["max_batch_tokens"] == 50
        small = rt(texts, top_k=1)
        assert max(sizes) <= 50
        assert len(sizes) > 10
    with bertrt.load(make_artifact("BertForMaskedLM"), threads=1, max_batch_tokens=10**6) as rt:
        sizes.clear()
        assert [one[0]["token"] for one in rt(texts, top_k=1)] == [one[0]["token"] for one in small]
        assert len(sizes) == 1
