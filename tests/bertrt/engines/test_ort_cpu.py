"""The CPU session: its errors, and its use from threads, forked children and pickles."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import bertrt
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.errors import BertrtError, DeviceError


@pytest.fixture(scope="module")
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertForMaskedLM")


def make_session(artifact: Path, provider: str = "CPUExecutionProvider") -> OrtCpuSession:
    options = OrtOptions(level="basic", threads=1, provider=provider)
    return OrtCpuSession(artifact / "model.onnx", options)


INPUTS = {
    "input_ids": np.array([[2, 10, 11, 3]]),
    "attention_mask": np.ones((1, 4), np.int64),
    "token_type_ids": np.zeros((1, 4), np.int64),
}


def test_run(artifact: Path) -> None:
    session = make_session(artifact)
    assert session.run(INPUTS)["logits"].shape[:2] == (1, 4)
    assert session.providers() == ["CPUExecutionProvider"]


def test_a_missing_provider_is_an_error_without_fallback(artifact: Path) -> None:
    with pytest.raises(DeviceError, match="CUDAExecutionProvider is not in this ONNX Runtime"):
        make_session(artifact, "CUDAExecutionProvider").run(INPUTS)


def test_a_failing_run_is_a_bertrt_error(artifact: Path) -> None:
    with pytest.raises(BertrtError, match="ONNX Runtime failed"):
        make_session(artifact).run({**INPUTS, "input_ids": np.array([[10**6]])})


def test_a_closed_runtime_refuses_calls(artifact: Path) -> None:
    rt = bertrt.load(artifact)
    rt("the [MASK] sat")
    rt.close()
    rt.close()
    with pytest.raises(BertrtError, match="closed"):
        rt("the [MASK] sat")


def test_sixteen_threads_give_equal_answers(artifact: Path) -> None:
    texts = [
        f"the cat {word} [MASK] on the mat {'a ' * (i % 7)}" for i, word in enumerate("abcdefghij")
    ]
    with bertrt.load(artifact, threads=1) as rt:
        expected = [rt(text) for text in texts]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda i: rt(texts[i % 10]), range(1000)))
    for i, answer in enumerate(answers):
        assert answer == expected[i % 10]


def test_eight_threads_with_different_shapes(artifact: Path) -> None:
    """Each answer equals that of a run alone."""
    random = np.random.default_rng(5)
    batches = [
        {"input_ids": random.integers(5, 200, (1 + i % 4, 3 + 7 * (i % 9)))} for i in range(36)
    ]
    with bertrt.load(artifact, threads=2) as rt:
        expected = [rt.run(**batch)["logits"] for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                answers = pool.map(lambda batch: rt.run(**batch)["logits"], batches)
                for got, alone in zip(answers, expected, strict=True):
                    np.testing.assert_allclose(got, alone, rtol=0, atol=1e-5)


def test_many_threads_open_the_session_once(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = OrtCpuSession._make
    monkeypatch.setattr(OrtCpuSession, "_make", lambda self: opened.append(1) or original(self))
    with bertrt.load(artifact, threads=1) as rt, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: rt("the [MASK]"), range(16)))
    assert len(opened) == 1


def test_load_opens_no_session(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrtCpuSession, "_make", lambda self: pytest.fail("opened"))
    with bertrt.load(artifact) as rt:
        rt.tokenize("no session is needed for this")


def test_info_has_the_settings_after_pickling(artifact: Path) -> None:
    with bertrt.load(artifact, threads=1, allow_spinning=False, max_batch_tokens=77) as rt:
        info = pickle.loads(pickle.dumps(rt)).info
    assert (info["allow_spinning"], info["max_batch_tokens"], info["threads"]) == (False, 77, 1)
    assert info["max_batch_tokens_reason"] == "chosen by the caller"
    assert info["processor"]
    assert info["int8"]
    with bertrt.load(artifact) as rt:
        assert rt.info["allow_spinning"] is True
        assert 128 <= rt.info["max_batch_tokens"] <= 1024


def test_a_pickled_runtime_answers_alike(artifact: Path) -> None:
    with bertrt.load(artifact) as rt:
        before = rt("the [MASK] sat")
        copy = pickle.loads(pickle.dumps(rt))
    assert copy("the [MASK] sat") == before  # the original is closed
    copy.close()


FORK = """
import os, sys, bertrt
rt = bertrt.load(sys.argv[1], threads=2)
expected = rt("the [MASK] sat")
child = os.fork()
if child == 0:
    code = 1
    try:
        code = 0 if rt("the [MASK] sat") == expected else 2
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert rt("the [MASK] sat") == expected
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_its_own_session(artifact: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(artifact)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_runtime_can_be_sent_to_a_spawned_process(artifact: Path) -> None:
    with bertrt.load(artifact) as rt, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(rt, ("the [MASK] sat",)) == rt("the [MASK] sat")
