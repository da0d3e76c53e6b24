"""Test the Triton session on a GPU: replays match launches; graphs and memory stay bounded."""

import multiprocessing
import threading
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
from bertrt.kernels.engine.cuda_graphs import CudaGraphRunner
from bertrt.kernels.engine.program import Kernels
from bertrt.kernels.engine.runner import EagerRunner
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.engine.transfer import start_download
from bertrt.kernels.triton import KERNELS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
Inputs = Callable[..., dict[str, np.ndarray]]
BATCHES = [[1], [7], [18, 2], [6], [3, 1, 5], [1] * 9, [4, 2, 3]]


def gpu() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def test_replays_match_launches_bit_by_bit(tiny_path: Path, make_inputs: Inputs) -> None:
    captured = TritonSession(tiny_path)
    launched = TritonSession(tiny_path, make_runner=lambda: EagerRunner(gpu()))
    for lengths in BATCHES * 3:
        inputs = make_inputs(lengths, hole=True)
        got, expected = captured.run(inputs), launched.run(inputs)
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value)


def test_a_session_matches_the_reference(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs
) -> None:
    session = TritonSession(tiny_path)
    assert session.providers() == [str(gpu())]
    for lengths in BATCHES * 2:
        inputs = make_inputs(lengths)
        reference = expected(inputs)
        for name, value in session.run(inputs).items():
            # Full float32, but sums in another order.
            np.testing.assert_allclose(value, reference[name], rtol=1e-4, atol=1e-4)


def test_many_shapes_keep_few_graphs_and_little_memory(
    tiny_path: Path, make_inputs: Inputs
) -> None:
    runner = CudaGraphRunner(gpu(), max_graphs=4)
    session = TritonSession(tiny_path, make_runner=lambda: runner)
    shapes = [[length] * batch for length in range(1, 19) for batch in (1, 2, 5, 17)]
    reserved = []
    for _ in range(3):
        for lengths in shapes:
            session.run(make_inputs(lengths), ["pooled"])
            assert len(runner) <= 4
        torch.cuda.synchronize()
        reserved.append(torch.cuda.memory_reserved())
    # A graph that is not freed holds at least 2 MB, the allocator's smallest block.
    assert reserved[2] - reserved[1] < 32 << 20


def test_a_bucket_with_large_results_is_not_captured(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs
) -> None:
    runner = CudaGraphRunner(gpu(), max_result_bytes=100)
    session = TritonSession(tiny_path, make_runner=lambda: runner)
    inputs = make_inputs([5, 2])
    np.testing.assert_allclose(
        session.run(inputs, ["pooled"])["pooled"], expected(inputs)["pooled"], rtol=1e-4, atol=1e-4
    )
    assert len(runner) == 0


def test_large_results_survive_later_runs_and_the_session(
    tiny_path: Path, make_inputs: Inputs
) -> None:
    """Results above 1 MiB are the memory that the GPU copied into."""
    session = TritonSession(tiny_path)
    batches = [make_inputs([18] * batch) for batch in (640, 704, 640)]
    expected = [session.run(inputs, ["logits"])["logits"] for inputs in batches]
    answers = [
        start_download(session.run_on_device(inputs, ["logits"]))()["logits"]
        for inputs in batches * 3
    ]
    session.close()
    del session
    torch.cuda.empty_cache()
    for answer, reference in zip(answers, expected * 3, strict=True):
        assert answer.nbytes > 1 << 20
        np.testing.assert_array_equal(answer, reference)


def test_many_threads(tiny_path: Path, make_inputs: Inputs) -> None:
    session = TritonSession(tiny_path)
    batches = [make_inputs(lengths) for lengths in BATCHES]
    expected = [session.run(inputs) for inputs in batches]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: session.run(batches[i % len(batches)]), range(200)))
    for i, answer in enumerate(answers):
        for name, value in answer.items():
            np.testing.assert_array_equal(value, expected[i % len(batches)][name])


def test_two_sessions_capture_in_two_threads(tiny_path: Path, make_inputs: Inputs) -> None:
    """PyTorch allows one capture at a time in a process; each session meets each size first."""
    batches = [make_inputs(lengths) for lengths in BATCHES]
    launched = TritonSession(tiny_path, make_runner=lambda: EagerRunner(gpu()))
    expected = [launched.run(inputs) for inputs in batches]
    for _ in range(5):
        sessions = [TritonSession(tiny_path), TritonSession(tiny_path)]
        both = threading.Barrier(2)

        def run(session: TritonSession, both: threading.Barrier = both) -> list[Any]:
            session.providers()
            both.wait()
            return [session.run(inputs) for inputs in batches * 2]

        with ThreadPoolExecutor(2) as pool:
            for answers in pool.map(run, sessions):
                for got, reference in zip(answers, expected * 2, strict=True):
                    for name, value in reference.items():
                        np.testing.assert_array_equal(got[name], value)
        assert [session.info()["cuda_graphs"] for session in sessions] == [True, True]


def test_a_failed_capture_keeps_the_answer(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs
) -> None:
    """The bucket is launched from then on, and the stream can still capture others."""

    def unit_rows(x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 2 and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not in a capture")
        return KERNELS["UnitRows"](x)

    runner = CudaGraphRunner(gpu())
    kernels = Kernels({**KERNELS, "UnitRows": unit_rows})
    session = TritonSession(tiny_path, kernels=kernels, make_runner=lambda: runner)
    for lengths in [[5, 2], [7], [3, 4], [7], [5, 2]]:
        inputs = make_inputs(lengths)
        got, reference = session.run(inputs, ["unit"]), expected(inputs)
        np.testing.assert_allclose(got["unit"], reference["unit"], rtol=1e-4, atol=1e-4)
    assert len(runner) == 1
    assert "1 failed (RuntimeError: not in a capture)" in session.info()["cuda_graphs"]


def test_closing_frees_the_weights(tiny_path: Path, make_inputs: Inputs) -> None:
    session = TritonSession(tiny_path)
    session.run(make_inputs([5, 2]))
    loaded = session._inner
    assert loaded is not None
    weights = [weakref.ref(tensor) for tensor in loaded._weights.values()]
    assert all(weight().is_cuda for weight in weights)
    del loaded
    session.close()
    assert not any(weight() is not None for weight in weights)


def _run_in_child(session: TritonSession, inputs: dict[str, np.ndarray], answer: Any) -> None:
    try:
        session.run(inputs)
        answer.put("no error")
    except BertrtError as error:
        answer.put(str(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_of_a_process_that_used_cuda_is_refused(
    tiny_path: Path, make_inputs: Inputs
) -> None:
    session = TritonSession(tiny_path)
    inputs = make_inputs([5, 2])
    session.run(inputs)
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_run_in_child, args=(session, inputs, answer))
    child.start()
    assert "before this process was forked" in answer.get(timeout=60)
    child.join()
    session.run(inputs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_answers_do_not_depend_on_earlier_runs(
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
