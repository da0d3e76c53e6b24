"""ONNX Runtime on a GPU: runs with CUDA graphs equal those without, in all heads and threads."""

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
# Relative to the largest number: another order of float32 sums; about twenty float16 roundings.
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}


def make_inputs(batch: int, length: int, *, choices: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(100 * batch + length)
    lengths = random.integers(1, length + 1, batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    inputs = {
        "input_ids": random.integers(5, 200, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape) * mask,
    }
    if choices:
        inputs = {name: np.stack([array] * choices, axis=1) for name, array in inputs.items()}
        inputs["input_ids"][:, 1:, 0] = 7
    return inputs


def open_on_gpu(path: Path, *, graphs: bool = True) -> OrtCudaSession:
    options = OrtOptions("all", threads=1, provider=CUDA, cuda_graphs=graphs)
    return OrtCudaSession(path / "model.onnx", options, longest=64)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("class_name", HEADS)
def test_heads_equal_the_cpu_provider(
    make_artifact: Callable[..., Path], class_name: str, dtype: str
) -> None:
    path = make_artifact(class_name, device="cuda", engine="ort", dtype=dtype)
    exact = make_artifact(class_name, device="cuda", engine="ort", dtype="float32")
    cpu = open_session(exact / "model.onnx", OrtOptions("basic", threads=2))
    names = [value.name for value in cpu.get_outputs()]
    session = open_on_gpu(path)
    choices = 2 * (class_name == "BertForMultipleChoice")
    answers = []
    for batch, length in SHAPES * 2:
        inputs = make_inputs(batch, length, choices=choices)
        answers.append((session.run(inputs), cpu.run(names, inputs), inputs["attention_mask"]))
    assert session.info() == {"cuda_graphs": True}
    assert session.providers()[0] == CUDA
    for got, expected, mask in answers:
        for name, value in zip(names, expected, strict=True):
            close = TOLERANCE[dtype] * np.abs(value).max()
            # Outputs of padding are never read.
            read = mask.astype(bool) if value.shape[: mask.ndim] == mask.shape else ...
            np.testing.assert_allclose(got[name][read], value[read], rtol=0, atol=close)
    session.close()


@pytest.fixture(scope="module")
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertModel", device="cuda", engine="ort")


def test_replays_equal_runs_without_graphs(artifact: Path) -> None:
    with_graphs, without_graphs = open_on_gpu(artifact), open_on_gpu(artifact, graphs=False)
    for batch, length in SHAPES * 3:
        inputs = make_inputs(batch, length)
        got, expected = with_graphs.run(inputs), without_graphs.run(inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=2e-3 * np.abs(value).max())
    assert without_graphs.info() == {"cuda_graphs": "no: they were not requested"}


def test_shapes_beyond_the_limits_run_between_replays(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs without a graph may use the memory of graphs between replays."""
    monkeypatch.setattr(io_binding, "_MOST_GRAPHS", 3)
    session = open_on_gpu(artifact)
    first = [session.run(make_inputs(batch, length)) for batch, length in SHAPES]
    assert len(session._inner) == 3
    for _ in range(3):
        for (batch, length), expected in zip(SHAPES, first, strict=True):
            for name, value in session.run(make_inputs(batch, length)).items():
                np.testing.assert_array_equal(value, expected[name])


def test_many_threads_equal_one(artifact: Path) -> None:
    session = open_on_gpu(artifact)
    expected = [session.run(make_inputs(batch, length)) for batch, length in SHAPES]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: session.run(make_inputs(*SHAPES[i % 10])), range(400)))
    for i, answer in enumerate(answers):
        for name, value in expected[i % 10].items():
            np.testing.assert_array_equal(answer[name], value)


def test_two_sessions_at_a_time(artifact: Path) -> None:
    sessions = [open_on_gpu(artifact), open_on_gpu(artifact)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda i: sessions[i % 2].run(make_inputs(*SHAPES[i % 5])), range(80))
        )
    for i, answer in enumerate(answers):
        for name, value in answers[i % 10].items():
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=2e-3)
    assert [session.info()["cuda_graphs"] for session in sessions] == [True, True]


def test_a_runtime_embeds_alike_alone_and_in_batches(artifact: Path) -> None:
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
def test_a_spawned_process_may_use_the_gpu_and_a_forked_one_not(artifact: Path) -> None:
    expected = _embed(artifact)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_allclose(pool.apply(_embed, (artifact,)), expected, rtol=0, atol=5e-3)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _embed(artifact)
        except BertrtError as error:
            code = 0 if "with the 'spawn' method" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
