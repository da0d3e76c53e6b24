"""The Triton session on a GPU: replays equal launches, graphs and memory stay bounded."""

import multiprocessing
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bertrt
from bertrt.errors import BertrtError
from bertrt.kernels.engine.cuda_graphs import Captured, Launched
from bertrt.kernels.engine.session import TritonSession

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
Feeds = Callable[..., dict[str, np.ndarray]]
BATCHES = [[1], [7], [18, 2], [6], [3, 1, 5], [1] * 9, [4, 2, 3]]


def gpu() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def test_replays_equal_launches_to_the_bit(tiny_path: Path, feeds_of: Feeds) -> None:
    captured = TritonSession(tiny_path)
    launched = TritonSession(tiny_path, strategy=lambda: Launched(gpu()))
    for lengths in BATCHES * 3:
        feeds = feeds_of(lengths, hole=True)
        got, expected = captured.run(feeds), launched.run(feeds)
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value)


def test_a_session_equals_the_reference(tiny_path: Path, feeds_of: Feeds, expected: Feeds) -> None:
    one = TritonSession(tiny_path)
    assert one.providers() == [str(gpu())]
    for lengths in BATCHES * 2:
        feeds = feeds_of(lengths)
        wanted = expected(feeds)
        for name, value in one.run(feeds).items():
            # float32 in full, summed in another order.
            np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-4)


def test_many_shapes_keep_few_graphs_and_little_memory(tiny_path: Path, feeds_of: Feeds) -> None:
    strategy = Captured(gpu(), graphs=4)
    one = TritonSession(tiny_path, strategy=lambda: strategy)
    shapes = [[length] * batch for length in range(1, 19) for batch in (1, 2, 5, 17)]
    held = []
    for _ in range(3):
        for lengths in shapes:
            one.run(feeds_of(lengths), ["pooled"])
            assert len(strategy) <= 4
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_reserved())
    # A graph that was not freed would hold 2 MB at least, the allocator's smallest piece.
    assert held[2] - held[1] < 32 << 20


def test_results_without_room_are_launched(
    tiny_path: Path, feeds_of: Feeds, expected: Feeds
) -> None:
    strategy = Captured(gpu(), room=100)
    one = TritonSession(tiny_path, strategy=lambda: strategy)
    feeds = feeds_of([5, 2])
    np.testing.assert_allclose(
        one.run(feeds, ["pooled"])["pooled"], expected(feeds)["pooled"], rtol=1e-4, atol=1e-4
    )
    assert len(strategy) == 0


def test_many_threads(tiny_path: Path, feeds_of: Feeds) -> None:
    one = TritonSession(tiny_path)
    batches = [feeds_of(lengths) for lengths in BATCHES]
    wanted = [one.run(feeds) for feeds in batches]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: one.run(batches[i % len(batches)]), range(200)))
    for i, answer in enumerate(answers):
        for name, value in answer.items():
            np.testing.assert_array_equal(value, wanted[i % len(batches)][name])


def test_closing_frees_the_weights(tiny_path: Path, feeds_of: Feeds) -> None:
    one = TritonSession(tiny_path)
    one.run(feeds_of([5, 2]))
    opened = one._inner
    assert opened is not None
    weights = [weakref.ref(tensor) for tensor in opened._weights.values()]
    assert all(weight().is_cuda for weight in weights)
    del opened
    one.close()
    assert not any(weight() is not None for weight in weights)


def _run_in_child(one: TritonSession, feeds: dict[str, np.ndarray], answer: Any) -> None:
    try:
        one.run(feeds)
        answer.put("no error")
    except BertrtError as error:
        answer.put(str(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_of_a_process_that_used_cuda(tiny_path: Path, feeds_of: Feeds) -> None:
    one = TritonSession(tiny_path)
    feeds = feeds_of([5, 2])
    one.run(feeds)
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_run_in_child, args=(one, feeds, answer))
    child.start()
    assert "before this process was forked" in answer.get(timeout=60)
    child.join()
    one.run(feeds)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_answers_do_not_depend_on_what_was_run_before(
    load_artifact: Callable[..., Any], dtype: str
) -> None:
    rt = load_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype=dtype)
    texts = ["the cat [MASK]", "paris is the [MASK] of france", "[MASK] " * 20]
    first = [rt(text) for text in texts]
    for text, answer in zip(texts[::-1], first[::-1], strict=True):
        assert rt(text) == answer


def test_pickle(make_artifact: Callable[..., Path]) -> None:
    import pickle

    path = make_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float16")
    with bertrt.load(path) as rt:
        expected = rt("the cat [MASK]")
        with pickle.loads(pickle.dumps(rt)) as again:
            assert again("the cat [MASK]") == expected
