"""ONNX Runtime's session for a GPU, on the CPU provider: one thread, fallbacks, forks, pickles."""

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
from bertrt.artifact.directory import Artifact
from bertrt.artifact.targets import Target
from bertrt.engines import ort_cuda as module
from bertrt.engines.gpu_thread import on_gpu_thread
from bertrt.engines.ort_cuda import OrtCudaSession
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.engines.select import find_target, open_graph
from bertrt.errors import ArtifactError, BertrtError, InputError

REFUSED = (
    "ONNX Runtime 1.31.1 cannot open model.onnx: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : This "
    "session cannot use the graph capture feature as requested by the user  as all compute graph "
    "nodes have not been partitioned to the CUDAExecutionProvider"
)


@pytest.fixture(scope="module")
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertModel", device="cuda", engine="ort", dtype="float32")


def options(*, graphs: bool = True) -> OrtOptions:
    return OrtOptions("basic", threads=1, cuda_graphs=graphs)


def session(artifact: Path, *, graphs: bool = True) -> OrtCudaSession:
    return OrtCudaSession(artifact / "model.onnx", options(graphs=graphs), longest=64)


def feeds_of(batch: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(batch * 100 + length).integers(5, 200, (batch, length))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


class Watched:
    """A session whose runs are watched: which threads, how many at once, and with which graphs."""

    def __init__(self, inner: Any, seen: dict[str, Any], fails: str = "") -> None:
        self.inner, self.seen, self.fails = inner, seen, fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.seen.setdefault("threads", set()).add(threading.get_ident())
        self.seen["now"] = self.seen.get("now", 0) + 1
        self.seen["most"] = max(self.seen.get("most", 0), self.seen["now"])
        graph = options.get_run_config_entry("gpu_graph_id")
        self.seen.setdefault("graphs", []).append(int(graph))
        try:
            if self.fails and graph != "-1":
                raise RuntimeError(self.fails)
            self.inner.run_with_iobinding(binding, options)
        finally:
            self.seen["now"] -= 1


def test_many_threads_and_sessions_take_turns(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(module, "open_session", lambda *given: Watched(open_session(*given), seen))
    sessions = [session(artifact), session(artifact, graphs=False)]
    batches = [feeds_of(1 + i % 3, 3 + 5 * (i % 4)) for i in range(12)]
    plain = open_session(artifact / "model.onnx", options())
    expected = [plain.run(["last_hidden_state"], feeds)[0] for feeds in batches]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: sessions[i % 2].run(batches[i % 12]), range(96)))
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(
            answer["last_hidden_state"], expected[i % 12], rtol=1e-5, atol=1e-5
        )
    assert (len(seen["threads"]), seen["most"]) == (1, 1)
    assert threading.get_ident() not in seen["threads"]
    # The first session's batches are of three sizes and two lengths: a graph each, whoever asks.
    assert sorted(set(seen["graphs"])) == [-1, 1, 2, 3, 4, 5, 6]
    sessions[0].run(batches[0])
    assert seen["threads"] >= {threading.get_ident()}
    assert seen["graphs"][-1] == 7  # the main thread's own


def test_info_tells_whether_there_are_graphs(artifact: Path) -> None:
    one, other = session(artifact), session(artifact, graphs=False)
    assert one.info() == {"cuda_graphs": "not known before a run"}
    one.run(feeds_of(1, 3))
    assert one.info() == {"cuda_graphs": True}
    assert one.providers() == ["CPUExecutionProvider"]
    assert other.info() == {"cuda_graphs": "no: they were not asked for"}


def test_a_graph_that_cannot_be_captured_runs_without(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime says so when the session is opened."""
    asked = []

    def opening(path: Path, given: OrtOptions) -> Any:
        asked.append((given.provider, given.cuda_graphs))
        if given.cuda_graphs:
            raise ArtifactError(REFUSED)
        return Watched(open_session(path, given), seen)

    seen: dict[str, Any] = {}
    monkeypatch.setattr(module, "open_session", opening)
    one = session(artifact)
    for _ in range(2):
        assert one.run(feeds_of(2, 5))["pooler_output"].shape == (2, 32)
    assert asked == [("CPUExecutionProvider", True), ("CPUExecutionProvider", False)]
    assert seen["graphs"] == [-1, -1]
    reason = one.info()["cuda_graphs"]
    assert reason.startswith("no: This session cannot use the graph capture feature")
    assert reason.endswith("have not been partitioned to the CUDAExecutionProvider")


def test_another_failure_to_open_is_an_error(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opening(path: Path, given: OrtOptions) -> Any:
        asked.append(given.cuda_graphs)
        raise ArtifactError("ONNX Runtime cannot open model.onnx: no such operator")

    asked: list[bool] = []
    monkeypatch.setattr(module, "open_session", opening)
    with pytest.raises(ArtifactError, match="no such operator"):
        session(artifact).run(feeds_of(1, 3))
    assert asked == [True]


def test_a_capture_that_fails_is_answered_by_a_new_session_without(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    seen: dict[str, Any] = {}

    def opening(path: Path, given: OrtOptions) -> Any:
        asked.append(given.cuda_graphs)
        fails = "CUDA failure 900: operation not permitted\nwhen stream is capturing"
        return Watched(open_session(path, given), seen, fails)

    monkeypatch.setattr(module, "open_session", opening)
    one = session(artifact)
    feeds = feeds_of(2, 5)
    expected = open_session(artifact / "model.onnx", options()).run(["mean_embedding"], feeds)[0]
    for _ in range(2):
        got = one.run(feeds, ["mean_embedding"])["mean_embedding"]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert asked == [True, False]
    assert seen["graphs"] == [1, -1, -1]
    assert one.info()["cuda_graphs"] == (
        "no: ONNX Runtime could not capture one (CUDA failure 900: operation not permitted when "
        "stream is capturing)"
    )
    # A copy may be on a machine that can.
    assert pickle.loads(pickle.dumps(one)).info() == {"cuda_graphs": "not known before a run"}


def test_errors_are_one_sentence(artifact: Path) -> None:
    one = session(artifact, graphs=False)
    with pytest.raises(BertrtError, match="ONNX Runtime failed on this input"):
        one.run({**feeds_of(1, 3), "input_ids": np.array([[1, 10**6, 2]])})
    with pytest.raises(InputError, match="attention_mask is missing"):
        one.run({"input_ids": np.array([[1]])})
    assert one.run(feeds_of(1, 3))


def test_the_check_comes_first(artifact: Path) -> None:
    def check() -> None:
        raise ArtifactError("model.onnx is not the file that was exported")

    one = OrtCudaSession(artifact / "model.onnx", options(), check, longest=64)
    with pytest.raises(ArtifactError, match="not the file"):
        one.run(feeds_of(1, 3))


def test_close_and_pickle(artifact: Path) -> None:
    one = session(artifact)
    before = one.run(feeds_of(2, 7))
    copy = pickle.loads(pickle.dumps(one))
    one.close()
    one.close()
    with pytest.raises(BertrtError, match="closed"):
        one.run(feeds_of(2, 7))
    with pytest.raises(BertrtError, match="closed"):
        one.check_open()
    for name, value in copy.run(feeds_of(2, 7)).items():
        np.testing.assert_array_equal(value, before[name])


FORK = """
import os, pickle, sys
from pathlib import Path
import numpy as np
from bertrt.engines import fork_safe
from bertrt.engines.ort_cuda import OrtCudaSession
from bertrt.errors import BertrtError
from bertrt.engines.ort_options import OrtOptions
options = OrtOptions("basic", threads=2, cuda_graphs=True)
one = OrtCudaSession(Path(sys.argv[1]), options, longest=64)
feeds = {name: np.ones((1, 5), np.int64) for name in ("input_ids", "attention_mask")}
feeds["token_type_ids"] = np.zeros((1, 5), np.int64)
expected = one.run(feeds)["pooler_output"]
fork_safe.mark_cuda_in_use()  # as a session on a GPU does
child = os.fork()
if child == 0:
    code = 1
    try:
        assert (one.run(feeds)["pooler_output"] == expected).all()
        gpu = OrtOptions("basic", threads=2, provider="CUDAExecutionProvider")
        try:
            OrtCudaSession(Path(sys.argv[1]), gpu, longest=64).run(feeds)
        except BertrtError as error:
            code = 0 if "with the 'spawn' method" in str(error) else 2
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (one.run(feeds)["pooler_output"] == expected).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_use(artifact: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(
        [*command, str(artifact / "model.onnx")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_gpus_thread_hands_errors_on() -> None:
    def fail() -> None:
        raise ValueError(threading.current_thread().name)

    with pytest.raises(ValueError, match="MainThread"):
        on_gpu_thread(fail)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="bertrt-gpu"):
        pool.submit(on_gpu_thread, fail).result()
    assert on_gpu_thread(lambda number: number + 1, 1) == 2


def test_the_engine_opens_it_with_the_models_sizes(artifact: Path) -> None:
    opened = Artifact.open(artifact)
    target = find_target(opened.manifest.target)
    given = OrtOptions("all", threads=1, provider=target.provider)
    one = open_graph(opened, target, given)
    assert isinstance(one, OrtCudaSession)
    assert (one._longest, one._options.cuda_graphs, one._options.level) == (64, True, "all")


def test_a_runtime_on_it(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole calls, with the CPU in the GPU's place."""
    monkeypatch.setattr(
        "bertrt.engines.select.TARGETS",
        (Target("cuda", "ort", ("float16",), "CPUExecutionProvider", "all"),),
    )
    texts = ["plants create oxygen", "the cat sat on the mat and the dog", "paris"] * 3
    with bertrt.load(artifact, threads=1) as rt:
        assert rt.info["cuda_graphs"] == "not known before a run"
        rt.warmup([(1, 16), (4, 8)])
        assert len(rt._pool.wide.session._inner) == 4  # for the main thread and for others
        together = rt.embed(texts)
        alone = np.stack([rt.embed(text) for text in texts])
        assert rt.info["cuda_graphs"] is True
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
