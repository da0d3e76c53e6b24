"""ONNX Runtime on a GPU: CUDA graphs answer as runs without, for all shapes, threads and heads."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.engines import io_binding
from bertrt.engines.cuda_provider import CUDA
from bertrt.engines.ort import onnxruntime
from bertrt.engines.ort_cuda import OrtCudaSession
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.errors import BertrtError
from bertrt.export.heads import HEADS as EXPORTED

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        CUDA not in onnxruntime().get_available_providers(), reason="needs onnxruntime-gpu"
    ),
]
HEADS = [head.class_name for head in EXPORTED]
SHAPES = [(1, 3), (2, 9), (1, 8), (3, 33), (1, 5), (2, 9), (5, 1), (1, 3), (9, 64), (1, 61)]
# Of the largest number: float32 in another order of sums, and some twenty roundings of float16.
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}


def feeds_of(batch: int, length: int, *, choices: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(100 * batch + length)
    lengths = random.integers(1, length + 1, batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    feeds = {
        "input_ids": random.integers(5, 200, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape) * mask,
    }
    if choices:
        feeds = {name: np.stack([one] * choices, axis=1) for name, one in feeds.items()}
        feeds["input_ids"][:, 1:, 0] = 7
    return feeds


def on_gpu(path: Path, *, graphs: bool = True) -> OrtCudaSession:
    options = OrtOptions("all", threads=1, provider=CUDA, cuda_graphs=graphs)
    return OrtCudaSession(path / "model.onnx", options, longest=64)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("class_name", HEADS)
def test_heads_answer_as_on_the_cpu(
    make_artifact: Callable[..., Path], class_name: str, dtype: str
) -> None:
    path = make_artifact(class_name, device="cuda", engine="ort", dtype=dtype)
    exact = make_artifact(class_name, device="cuda", engine="ort", dtype="float32")
    cpu = open_session(exact / "model.onnx", OrtOptions("basic", threads=2))
    names = [one.name for one in cpu.get_outputs()]
    one = on_gpu(path)
    choices = 2 * (class_name == "BertForMultipleChoice")
    answers = []
    for batch, length in SHAPES * 2:
        feeds = feeds_of(batch, length, choices=choices)
        answers.append((one.run(feeds), cpu.run(names, feeds), feeds["attention_mask"]))
    assert one.info() == {"cuda_graphs": True}
    assert one.providers()[0] == CUDA
    for got, expected, mask in answers:
        for name, value in zip(names, expected, strict=True):
            close = TOLERANCE[dtype] * np.abs(value).max()
            # What a padded token's output is, nobody reads.
            told = mask.astype(bool) if value.shape[: mask.ndim] == mask.shape else ...
            np.testing.assert_allclose(got[name][told], value[told], rtol=0, atol=close)
    one.close()


@pytest.fixture(scope="module")
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertModel", device="cuda", engine="ort")


def test_replays_equal_runs_without_graphs(artifact: Path) -> None:
    captured, launched = on_gpu(artifact), on_gpu(artifact, graphs=False)
    for batch, length in SHAPES * 3:
        feeds = feeds_of(batch, length)
        got, expected = captured.run(feeds), launched.run(feeds)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=2e-3 * np.abs(value).max())
    assert launched.info() == {"cuda_graphs": "no: they were not asked for"}


def test_shapes_beyond_the_bounds_run_between_replays(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that a graph uses is lent to runs without one, and taken back."""
    monkeypatch.setattr(io_binding, "_MOST_GRAPHS", 3)
    one = on_gpu(artifact)
    first = [one.run(feeds_of(batch, length)) for batch, length in SHAPES]
    assert len(one._inner) == 3
    for _ in range(3):
        for (batch, length), expected in zip(SHAPES, first, strict=True):
            for name, value in one.run(feeds_of(batch, length)).items():
                np.testing.assert_array_equal(value, expected[name])


def test_many_threads(artifact: Path) -> None:
    one = on_gpu(artifact)
    expected = [one.run(feeds_of(batch, length)) for batch, length in SHAPES]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: one.run(feeds_of(*SHAPES[i % 10])), range(400)))
    for i, answer in enumerate(answers):
        for name, value in expected[i % 10].items():
            np.testing.assert_array_equal(answer[name], value)


def test_two_sessions_at_once(artifact: Path) -> None:
    sessions = [on_gpu(artifact), on_gpu(artifact)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: sessions[i % 2].run(feeds_of(*SHAPES[i % 5])), range(80)))
    for i, answer in enumerate(answers):
        for name, value in answers[i % 10].items():
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=2e-3)
    assert [one.info()["cuda_graphs"] for one in sessions] == [True, True]


def test_through_load(artifact: Path) -> None:
    texts = ["plants create oxygen", "the cat sat on the mat and the dog", "paris"] * 3
    with bertrt.load(artifact) as rt:
        rt.warmup([(1, 16), (9, 16)])
        together = rt.embed(texts)
        alone = np.stack([rt.embed(text) for text in texts])
        assert rt.info["cuda_graphs"] is True
    np.testing.assert_allclose(together, alone, rtol=0, atol=5e-3)


def _embed(path: Path) -> Any:
    with bertrt.load(path) as rt:
        return rt.embed("the cat sat on the mat")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_spawned_and_forked_processes(artifact: Path) -> None:
    expected = _embed(artifact)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_allclose(pool.apply(_embed, (artifact,)), expected, rtol=0, atol=5e-3)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _embed(artifact)
        except BertrtError as error:
            code = 0 if "start processes by 'spawn'" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
