"""The session for a GPU, on the CPU provider: one call at a time, fallbacks, forks, pickles."""

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


def make_options(*, graphs: bool = True) -> OrtOptions:
    return OrtOptions("basic", threads=1, cuda_graphs=graphs)


def make_session(artifact: Path, *, graphs: bool = True) -> OrtCudaSession:
    return OrtCudaSession(artifact / "model.onnx", make_options(graphs=graphs), longest=64)


def make_inputs(batch: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(batch * 100 + length).integers(5, 200, (batch, length))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


class RecordingSession:
    """A session that records in `seen` the threads, the graph ids and the most runs at a time.

    Runs with a graph raise `fails`.
    """

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
    monkeypatch.setattr(
        module, "open_session", lambda *args: RecordingSession(open_session(*args), seen)
    )
    sessions = [make_session(artifact), make_session(artifact, graphs=False)]
    batches = [make_inputs(1 + i % 3, 3 + 5 * (i % 4)) for i in range(12)]
    plain = open_session(artifact / "model.onnx", make_options())
    expected = [plain.run(["last_hidden_state"], inputs)[0] for inputs in batches]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: sessions[i % 2].run(batches[i % 12]), range(96)))
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(
            answer["last_hidden_state"], expected[i % 12], rtol=1e-5, atol=1e-5
        )
    assert (len(seen["threads"]), seen["most"]) == (1, 1)
    assert threading.get_ident() not in seen["threads"]
    # The first session gets batches of three sizes and two rounded lengths, a graph each.
    assert sorted(set(seen["graphs"])) == [-1, 1, 2, 3, 4, 5, 6]
    sessions[0].run(batches[0])
    assert seen["threads"] >= {threading.get_ident()}
    assert seen["graphs"][-1] == 7  # the main thread's own


def test_info_says_whether_graphs_are_used(artifact: Path) -> None:
    session, without = make_session(artifact), make_session(artifact, graphs=False)
    assert session.info() == {"cuda_graphs": "not known before a run"}
    session.run(make_inputs(1, 3))
    assert session.info() == {"cuda_graphs": True}
    assert session.providers() == ["CPUExecutionProvider"]
    assert without.info() == {"cuda_graphs": "no: they were not requested"}


def test_a_refused_capture_opens_a_session_without_graphs(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime refuses it when the session is opened."""
    opened = []

    def open_fake(path: Path, options: OrtOptions) -> Any:
        opened.append((options.provider, options.cuda_graphs))
        if options.cuda_graphs:
            raise ArtifactError(REFUSED)
        return RecordingSession(open_session(path, options), seen)

    seen: dict[str, Any] = {}
    monkeypatch.setattr(module, "open_session", open_fake)
    session = make_session(artifact)
    for _ in range(2):
        assert session.run(make_inputs(2, 5))["pooler_output"].shape == (2, 32)
    assert opened == [("CPUExecutionProvider", True), ("CPUExecutionProvider", False)]
    assert seen["graphs"] == [-1, -1]
    reason = session.info()["cuda_graphs"]
    assert reason.startswith("no: This session cannot use the graph capture feature")
    assert reason.endswith("have not been partitioned to the CUDAExecutionProvider")


def test_another_failure_to_open_is_an_error(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_fake(path: Path, options: OrtOptions) -> Any:
        opened.append(options.cuda_graphs)
        raise ArtifactError("ONNX Runtime cannot open model.onnx: no such operator")

    opened: list[bool] = []
    monkeypatch.setattr(module, "open_session", open_fake)
    with pytest.raises(ArtifactError, match="no such operator"):
        make_session(artifact).run(make_inputs(1, 3))
    assert opened == [True]


def test_after_a_failed_capture_a_new_session_answers(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    seen: dict[str, Any] = {}

    def open_fake(path: Path, options: OrtOptions) -> Any:
        opened.append(options.cuda_graphs)
        fails = "CUDA failure 900: operation not permitted\nwhen stream is capturing"
        return RecordingSession(open_session(path, options), seen, fails)

    monkeypatch.setattr(module, "open_session", open_fake)
    session = make_session(artifact)
    inputs = make_inputs(2, 5)
    plain = open_session(artifact / "model.onnx", make_options())
    expected = plain.run(["sentence_embedding"], inputs)[0]
    for _ in range(2):
        got = session.run(inputs, ["sentence_embedding"])["sentence_embedding"]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert opened == [True, False]
    assert seen["graphs"] == [1, -1, -1]
    assert session.info()["cuda_graphs"] == (
        "no: ONNX Runtime could not capture one (CUDA failure 900: operation not permitted when "
        "stream is capturing)"
    )
    # A copy may be on another machine, so it tries again.
    assert pickle.loads(pickle.dumps(session)).info() == {"cuda_graphs": "not known before a run"}


def test_errors_of_a_run(artifact: Path) -> None:
    session = make_session(artifact, graphs=False)
    with pytest.raises(BertrtError, match="ONNX Runtime failed on this input"):
        session.run({**make_inputs(1, 3), "input_ids": np.array([[1, 10**6, 2]])})
    with pytest.raises(InputError, match="attention_mask is missing"):
        session.run({"input_ids": np.array([[1]])})
    assert session.run(make_inputs(1, 3))


def test_damaged_files_are_refused(artifact: Path) -> None:
    def check() -> None:
        raise ArtifactError("model.onnx is not the file that was exported")

    session = OrtCudaSession(artifact / "model.onnx", make_options(), check, longest=64)
    with pytest.raises(ArtifactError, match="not the file"):
        session.run(make_inputs(1, 3))


def test_a_pickled_session_stays_open_when_the_first_is_closed(artifact: Path) -> None:
    session = make_session(artifact)
    before = session.run(make_inputs(2, 7))
    copy = pickle.loads(pickle.dumps(session))
    session.close()
    session.close()
    with pytest.raises(BertrtError, match="closed"):
        session.run(make_inputs(2, 7))
    with pytest.raises(BertrtError, match="closed"):
        session.check_open()
    for name, value in copy.run(make_inputs(2, 7)).items():
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
session = OrtCudaSession(Path(sys.argv[1]), options, longest=64)
inputs = {name: np.ones((1, 5), np.int64) for name in ("input_ids", "attention_mask")}
inputs["token_type_ids"] = np.zeros((1, 5), np.int64)
expected = session.run(inputs)["pooler_output"]
fork_safe.mark_cuda_in_use()  # as a session on a GPU does
child = os.fork()
if child == 0:
    code = 1
    try:
        assert (session.run(inputs)["pooler_output"] == expected).all()
        gpu = OrtOptions("basic", threads=2, provider="CUDAExecutionProvider")
        try:
            OrtCudaSession(Path(sys.argv[1]), gpu, longest=64).run(inputs)
        except BertrtError as error:
            code = 0 if "with the 'spawn' method" in str(error) else 2
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (session.run(inputs)["pooler_output"] == expected).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_runs_again_unless_cuda_was_used(artifact: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(
        [*command, str(artifact / "model.onnx")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_open_graph_passes_the_models_longest_sequence(artifact: Path) -> None:
    loaded = Artifact.open(artifact)
    target = find_target(loaded.manifest.target)
    options = OrtOptions("all", threads=1, provider=target.provider)
    session = open_graph(loaded, target, options)
    assert isinstance(session, OrtCudaSession)
    assert session._longest == 64
    assert session._options.cuda_graphs is True
    assert session._options.level == "all"


def test_a_runtime_on_a_cuda_session(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's provider is replaced by the CPU's."""
    monkeypatch.setattr(
        "bertrt.engines.select.TARGETS",
        (Target("cuda", "ort", ("float16",), "CPUExecutionProvider", "all"),),
    )
    texts = ["plants create oxygen", "the cat sat on the mat and the dog", "paris"] * 3
    with bertrt.load(artifact, threads=1) as rt:
        assert rt.info["cuda_graphs"] == "not known before a run"
        rt.warmup([(1, 16), (4, 8)])
        # Two graphs for the main thread, and two for all others.
        assert len(rt._pool.wide.session._inner) == 4
        together = rt.embed(texts)
        alone = np.stack([rt.embed(text) for text in texts])
        assert rt.info["cuda_graphs"] is True
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
