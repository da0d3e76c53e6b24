"""The batch runner: workers answer as one session does, and batches keep to their budget."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.errors import BertrtError
from bertrt.scheduling.batch_runner import BatchRunner

TEXTS = [f"the {'cat ' * (i * 7 % 23)}[MASK] sat" for i in range(60)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads of each session that is opened."""
    threads: list[int] = []
    make = OrtCpuSession._make
    monkeypatch.setattr(
        OrtCpuSession, "_make", lambda self: threads.append(self._options.threads) or make(self)
    )
    return threads


@pytest.fixture
def export_first(make_artifact: Callable[..., Path], opened: list[int]) -> Callable[[str], Path]:
    """A factory: class name to an artifact; sessions that its export opens are not counted."""

    def make(class_name: str) -> Path:
        artifact = make_artifact(class_name)
        opened.clear()
        return artifact

    return make


@pytest.mark.parametrize(
    ("class_name", "inputs"),
    [
        ("BertForMaskedLM", TEXTS),
        ("BertForSequenceClassification", TEXTS),
        ("BertForTokenClassification", TEXTS),
        (
            "BertForQuestionAnswering",
            [{"question": "where is mary", "context": f"mary {t} in paris"} for t in TEXTS],
        ),
    ],
)
def test_answers_equal_those_of_one_session(
    class_name: str, inputs: list[Any], export_first: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = export_first(class_name)
    with bertrt.load(artifact, threads=2, max_batch_tokens=50, workers=1) as rt:
        expected = rt(inputs)
        assert opened == [2]
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        done: list[int] = []
        answers = rt(inputs, progress=lambda count, total, what: done.append(count))
        assert opened == [2, 1]
    assert done == sorted(done)
    assert done[-1] == len(inputs)
    assert rounded(answers) == rounded(expected)


def rounded(answers: Any) -> Any:
    """Return answers with scores as strings of four decimals."""
    if isinstance(answers, dict):
        return {name: rounded(value) for name, value in answers.items()}
    if isinstance(answers, list):
        return [rounded(answer) for answer in answers]
    return f"{answers:.4f}" if isinstance(answers, float) else answers


def test_vectors_equal_those_of_single_texts(
    export_first: Callable[[str], Path], opened: list[int]
) -> None:
    texts = [text.replace("[MASK]", "cat") for text in TEXTS]
    artifact = export_first("BertModel")
    with bertrt.load(artifact, threads=3, max_batch_tokens=50) as rt:
        alone = np.stack([rt.embed(text) for text in texts])
        assert opened == [3]
        np.testing.assert_allclose(rt.embed(texts), alone, atol=1e-5)
        np.testing.assert_allclose(list(rt.embed(iter(texts))), alone, atol=1e-5)
        assert opened == [3, 1]


def test_arrays_equal_those_of_one_session(
    export_first: Callable[[str], Path], opened: list[int]
) -> None:
    """Rows keep their order, also where each has any number of masks."""
    ids = np.random.default_rng(7).integers(5, 200, (13, 9))
    ids[0, 3:6] = ids[6, 2] = ids[12, 1:9:2] = 4  # [MASK]
    artifact = export_first("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=10_000) as rt:
        whole, masks = rt.run(input_ids=ids), rt.run(input_ids=ids, masked_only=True)
        assert opened == [2]
    with bertrt.load(artifact, threads=2, max_batch_tokens=20) as rt:
        np.testing.assert_allclose(rt.run(input_ids=ids).logits, whole.logits, atol=1e-5)
        shared = rt.run(input_ids=ids, masked_only=True)
        assert opened == [2, 1]
    assert shared.logits.shape == masks.logits.shape == (8, 1, whole.logits.shape[-1])
    np.testing.assert_allclose(shared.logits, masks.logits, atol=1e-5)


def test_few_texts_and_uneven_chunks_run_in_the_wide_session(
    export_first: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = export_first("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        rt(TEXTS[:2])
        rt.run(input_ids=np.full((3, 40), 5))  # one worker would get two of the three rows
        assert opened == [2]
        rt.run(input_ids=np.full((4, 40), 5))
        assert opened == [2, 1]


def test_a_batcher_shares_the_session_of_as_many_workers(
    export_first: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = export_first("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        expected = rt(TEXTS, top_k=1)
        with rt.batcher() as batcher:
            assert rounded(batcher(TEXTS[3], top_k=1)) == rounded(expected[3])
        assert rounded(rt(TEXTS, top_k=1)) == rounded(expected)
        assert opened == [1]
    opened.clear()
    with bertrt.load(artifact, threads=4, max_batch_tokens=50) as rt, rt.batcher() as batcher:
        batcher(TEXTS[3])
        rt(TEXTS)
        assert opened == [3, 1]


def test_many_callers_copies_and_close(
    export_first: Callable[[str], Path], opened: list[int]
) -> None:
    artifact = export_first("BertForMaskedLM")
    with bertrt.load(artifact, threads=2, max_batch_tokens=50) as rt:
        expected = rounded(rt(TEXTS, top_k=1))
        copy = pickle.loads(pickle.dumps(rt))
        with ThreadPoolExecutor(8) as pool:
            for answers in pool.map(lambda _: rt(TEXTS, top_k=1), range(8)):
                assert rounded(answers) == expected
        assert opened == [1]
        assert rounded(copy(TEXTS, top_k=1)) == expected
        copy.close()
    for closed in (rt, copy):
        with pytest.raises(BertrtError, match="closed"):
            closed(TEXTS)


def test_info_has_the_workers_and_their_budget(make_artifact: Callable[..., Path]) -> None:
    artifact = make_artifact("BertForMaskedLM")
    with bertrt.load(artifact, threads=4) as rt:
        assert (rt.info["workers"], rt.info["worker_max_batch_tokens"]) == (4, 256)
    with bertrt.load(artifact, threads=4, workers=2, max_batch_tokens=77) as rt:
        assert (rt.info["workers"], rt.info["worker_max_batch_tokens"]) == (2, 77)
    with bertrt.load(artifact, threads=1) as rt:
        assert rt.info["workers"] == 1
        assert rt.info["worker_max_batch_tokens"] == rt.info["max_batch_tokens"]


def test_batches_of_texts_keep_to_the_budget(
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
        assert best_tokens(rt(texts, top_k=1)) == best_tokens(small)
        assert len(sizes) == 1


def best_tokens(answers: Any) -> list[int]:
    return [answer[0]["token"] for answer in answers]


FORK = """
import os, sys, bertrt
rt = bertrt.load(sys.argv[1], threads=2, max_batch_tokens=50)
texts = [f"the {'cat ' * (i * 7 % 23)}[MASK] sat" for i in range(60)]
def tokens():
    return [answer[0]["token"] for answer in rt(texts)]
expected = tokens()
child = os.fork()
if child == 0:
    os._exit(tokens() != expected)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert tokens() == expected
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_answers_alike(make_artifact: Callable[..., Path]) -> None:
    command = [sys.executable, "-c", FORK, str(make_artifact("BertForMaskedLM"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_on_a_gpu_use_their_own_session(make_artifact: Callable[..., Path]) -> None:
    """Triton's interpreter stands in for the GPU."""
    artifact = make_artifact(
        "BertForSequenceClassification", device="cuda", engine="triton", dtype="float32"
    )
    with bertrt.load(artifact, threads=2) as rt:
        expected = rt("the cat")
        alone = rt._pool.wide.session
        with rt.batcher(workers=2) as batcher:
            (answer,) = batcher("the cat")
            own: Any = rt._pool.narrow(2)
        assert own.session is not alone
        assert own.session._inner is not None
    assert answer["label"] == expected[0]["label"]
    assert answer["score"] == pytest.approx(expected[0]["score"], abs=1e-6)


@pytest.fixture
def gpu_artifact(make_artifact: Callable[..., Path]) -> Path:
    """Triton's interpreter stands in for the GPU."""
    return make_artifact(
        "BertForSequenceClassification", device="cuda", engine="triton", dtype="float32"
    )


class InFlight:
    """Counts the batches that are between padding and their outputs, and can let one fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = threading.Lock()
        self.running = self.most = self.count = 0
        self.failing = -1
        self.together: threading.Barrier | None = None
        run_batch = BatchRunner.run_batch

        def run(runner: BatchRunner, *args: Any, **options: Any) -> Any:
            with self.lock:
                number, self.count = self.count, self.count + 1
                self.running += 1
                self.most = max(self.most, self.running)
            try:
                if self.together is not None and number < 2:
                    self.together.wait()
                if number == self.failing:
                    raise MemoryError("the fourth batch")
                return run_batch(runner, *args, **options)
            finally:
                with self.lock:
                    self.running -= 1

        monkeypatch.setattr(BatchRunner, "run_batch", run)


def test_a_gpu_has_two_batches_in_flight(
    gpu_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"the {'cat ' * (i * 5 % 11)}sat {i}" for i in range(12)]
    in_flight = InFlight(monkeypatch)
    with bertrt.load(gpu_artifact, threads=1, max_batch_tokens=1000) as rt:
        expected = rounded(rt(texts))
        assert (in_flight.count, in_flight.most) == (1, 1)
    assert len({str(answer) for answer in expected}) > 6
    with bertrt.load(gpu_artifact, threads=1, max_batch_tokens=24) as rt:
        in_flight.count = 0
        in_flight.together = threading.Barrier(2, timeout=60)  # breaks unless two run at a time
        assert rounded(rt(texts)) == expected
        assert in_flight.count > 4
        assert in_flight.most == 2
        assert rounded(list(rt(iter(texts)))) == expected
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda _: rounded(rt(texts)), range(3))) == [expected] * 3
        assert in_flight.most == 2
        assert rt.info["workers"] == 1


def test_a_batch_that_fails_on_a_gpu_fails_its_call_only(
    gpu_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"the {'cat ' * (i * 5 % 11)}sat {i}" for i in range(12)]
    in_flight = InFlight(monkeypatch)
    with bertrt.load(gpu_artifact, threads=1, max_batch_tokens=24) as rt:
        expected = rounded(rt(texts))
        batches, in_flight.count, in_flight.failing = in_flight.count, 0, 3
        with pytest.raises(MemoryError, match="the fourth batch"):
            rt(texts)
        assert in_flight.running == 0
        assert in_flight.count <= 5 < batches
        encodings = [rt.tokenizer.encode(text) for text in texts]
        in_flight.count = 0
        found: list[Any] = []
        with pytest.raises(MemoryError, match="the fourth batch"):
            found.extend(rt._runner.run_encodings(encodings))
        assert len(found) >= 3  # the batches before it have their outputs
        assert rounded(rt(texts)) == expected
