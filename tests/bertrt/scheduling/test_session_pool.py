"""The session pool: which session runs what, and when sessions are opened and closed."""

import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.artifact.directory import Artifact
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.errors import ArtifactError, BertrtError, InputError
from bertrt.scheduling import session_pool
from bertrt.scheduling.session_pool import PooledSession, SessionPool
from bertrt.scheduling.threads import Threads

Make = Callable[..., SessionPool]


class FakeSession:
    """A session that notes how it was prepared and whether it was closed."""

    def __init__(self, options: OrtOptions, instructions: Sequence[str]) -> None:
        self.options = options
        self.instructions = instructions
        self.closed = False

    def info(self) -> dict[str, Any]:
        return {"cuda_graphs": True}

    def check_open(self) -> None:
        if self.closed:
            raise BertrtError("closed")

    def close(self) -> None:
        self.closed = True


class FakeDeviceSession(FakeSession):
    """A session that also takes arrays on its device."""

    def complete_inputs(self, arrays: Any, specs: Any, config: Any) -> None:
        return None

    def is_on_device(self, value: Any) -> bool:
        return False

    def run(self, inputs: Any, outputs: Any = None) -> dict[str, Any]:
        return {}

    run_on_device = run


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """The sessions that pools prepare."""
    sessions: list[FakeSession] = []

    def open_graph(
        artifact: Any, target: Any, options: OrtOptions, instructions: Sequence[str]
    ) -> FakeSession:
        make = FakeDeviceSession if target.engine == "triton" else FakeSession
        sessions.append(make(options, instructions))
        return sessions[-1]

    monkeypatch.setattr(session_pool, "open_graph", open_graph)
    return sessions


@pytest.fixture
def make_pool(prepared: list[FakeSession]) -> Make:
    def make(threads: int, *, device: str = "cpu", engine: str = "ort", **options: Any) -> Any:
        artifact = SimpleNamespace(
            manifest=SimpleNamespace(target={"device": device, "engine": engine}),
            config=SimpleNamespace(hidden_size=768),
            graph_path=lambda instructions: Path(f"graph-for-{len(instructions)}.onnx"),
        )
        settings = {"allow_spinning": True, "max_batch_tokens": "auto", "workers": "auto"}
        count = Threads(threads, "for the test")
        return SessionPool(artifact, threads=count, **{**settings, **options})  # type: ignore[arg-type]

    return make


def one_part_a_row(sizes: Sequence[int]) -> Callable[[PooledSession, int], Sequence[int]]:
    """A `split` for rows of these sizes."""
    return lambda session, workers: sizes


def test_the_wide_session_has_all_threads(make_pool: Make, prepared: list[FakeSession]) -> None:
    pool = make_pool(4, allow_spinning=False)
    (session,) = prepared
    assert pool.wide.session is session  # type: ignore[comparison-overlap]
    assert session.options == OrtOptions(
        "all", threads=4, provider="CPUExecutionProvider", allow_spinning=False
    )
    assert session.instructions == pool.cpu.sets
    assert pool.wide.threads == Threads(4, "for the test")


@pytest.mark.parametrize(
    ("threads", "workers", "share"), [(4, 4, 1), (4, 2, 3), (4, 3, 2), (6, 5, 2)]
)
def test_narrow_sessions_share_the_other_threads(
    make_pool: Make, prepared: list[FakeSession], threads: int, workers: int, share: int
) -> None:
    pool = make_pool(threads)
    narrow = pool.narrow(workers)
    assert narrow is not pool.wide
    assert [session.options.threads for session in prepared] == [threads, share]
    assert narrow.threads == Threads(share, "a worker's share")
    assert pool.narrow(workers) is narrow
    assert pool.narrow(1) is pool.wide
    assert len(prepared) == 2


def test_budgets_follow_the_threads(make_pool: Make) -> None:
    pool = make_pool(4)
    assert pool.narrow(4).budget.reason == "fastest for one thread"
    assert pool.narrow(4).budget.tokens == 256
    pool = make_pool(4, max_batch_tokens=77)
    assert [pool.wide.budget.tokens, pool.narrow(4).budget.tokens] == [77, 77]


@pytest.mark.parametrize(
    ("sizes", "narrow"),
    [
        ([5, 5], True),
        ([5, 5, 5, 5], True),
        ([5], False),  # fewer rows than workers
        ([], False),
        ([8, 1], False),  # the second worker would wait
        ([5, 5, 5], False),
    ],
)
def test_workers_are_chosen_if_they_finish_together(
    make_pool: Make, sizes: list[int], narrow: bool
) -> None:
    pool = make_pool(2)
    session, workers, parts = pool.choose(len(sizes), one_part_a_row(sizes), lambda size: size)
    assert parts == sizes
    if narrow:
        assert session is pool.narrow(2)
        assert workers is not None
        assert workers.count == 2
    else:
        assert (session, workers) == (pool.wide, None)


def test_each_session_splits_by_its_own_budget(make_pool: Make) -> None:
    """The parts that are returned were made for the session that is returned."""
    pool = make_pool(2)
    calls: list[tuple[PooledSession, int]] = []

    def split(session: PooledSession, workers: int) -> list[int]:
        calls.append((session, workers))
        return [3, 3] if workers == 1 else [9, 1]

    assert pool.choose(2, split, lambda size: size) == (pool.wide, None, [3, 3])
    assert calls == [(pool.narrow(2), 2), (pool.wide, 1)]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 4, "workers": 1}])
def test_one_worker_opens_no_narrow_session(
    make_pool: Make, prepared: list[FakeSession], options: dict[str, Any]
) -> None:
    pool = make_pool(**options)
    session, workers, _ = pool.choose(8, one_part_a_row([1] * 8), lambda size: size)
    assert (session, workers) == (pool.wide, None)
    assert len(prepared) == 1


def test_a_gpu_runs_one_batch_at_a_time(make_pool: Make, prepared: list[FakeSession]) -> None:
    pool = make_pool(8, device="cuda")
    assert pool.workers == 1
    assert pool.choose(8, one_part_a_row([1] * 8), lambda size: size)[:2] == (pool.wide, None)
    assert prepared[0].options.provider == "CUDAExecutionProvider"
    with pytest.raises(InputError, match="workers is 2, and a GPU runs one batch at a time"):
        make_pool(8, device="cuda", workers=2)


def test_a_session_on_a_device_has_two_batches_in_flight(make_pool: Make) -> None:
    pool = make_pool(8, device="cuda", engine="triton")
    assert pool.workers == 1
    session, workers, parts = pool.choose(8, one_part_a_row([1] * 8), lambda size: size)
    assert (session, parts) == (pool.wide, [1] * 8)
    assert workers is not None
    assert (workers.count, workers.most_ahead) == (2, 1)
    assert pool.choose(8, one_part_a_row([8]), lambda size: size)[:2] == (pool.wide, None)
    assert pool.choose(0, one_part_a_row([]), lambda size: size)[:2] == (pool.wide, None)
    with pytest.raises(InputError, match="workers is 2, and a GPU runs one batch at a time"):
        make_pool(8, device="cuda", engine="triton", workers=2)


def test_an_unknown_target_is_an_error(make_pool: Make) -> None:
    with pytest.raises(ArtifactError, match="made for the device 'tpu'"):
        make_pool(2, device="tpu")


def test_threads_that_come_together_get_one_narrow_session(
    make_pool: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(4)
    barrier = threading.Barrier(8, timeout=60)
    prepare = pool._prepare

    def prepare_together(threads: Threads) -> PooledSession:
        barrier.wait()  # breaks unless all eight threads prepare a session
        return prepare(threads)

    monkeypatch.setattr(pool, "_prepare", prepare_together)
    with ThreadPoolExecutor(8) as executor:
        sessions = list(executor.map(lambda _: pool.narrow(4), range(8)))
    assert {id(session) for session in sessions} == {id(pool.narrow(4))}


def test_info_prepares_no_session(make_pool: Make, prepared: list[FakeSession]) -> None:
    pool = make_pool(4, device="any", allow_spinning=False, workers=3)
    assert pool.info() == {
        "threads": 4,
        "threads_reason": "for the test",
        "allow_spinning": False,
        "max_batch_tokens": pool.wide.budget.tokens,
        "max_batch_tokens_reason": pool.wide.budget.reason,
        "workers": 3,
        "worker_max_batch_tokens": pool.narrow(3).budget.tokens,
        "processor": pool.cpu.name,
        "instruction_sets": list(pool.cpu.sets),
        "int8": pool.cpu.int8,
        "graph": f"graph-for-{len(pool.cpu.sets)}.onnx",
        "device": "cpu",
        "engine": "ort",
        "provider": "CPUExecutionProvider",
        "cuda_graphs": True,
    }
    prepared.clear()
    make_pool(4).info()
    assert len(prepared) == 1


def test_close_closes_every_session_and_the_workers(
    make_pool: Make, prepared: list[FakeSession]
) -> None:
    pool = make_pool(4)
    pool.narrow(2)
    _, workers, _ = pool.choose(4, one_part_a_row([1] * 4), lambda size: size)
    assert workers is not None
    assert workers.submit(lambda: 7).result(60) == 7
    pool.check_open()
    for _ in range(2):
        pool.close()
    assert [session.closed for session in prepared] == [True] * 3
    with pytest.raises(BertrtError, match="closed"):
        pool.check_open()
    with pytest.raises(BertrtError, match="closed"):
        workers.submit(lambda: 7)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads of each real session that is opened."""
    threads: list[int] = []
    make = OrtCpuSession._make
    monkeypatch.setattr(
        OrtCpuSession, "_make", lambda self: threads.append(self._options.threads) or make(self)
    )
    return threads


def test_real_sessions_are_opened_by_their_first_run(
    make_artifact: Callable[..., Path], opened: list[int]
) -> None:
    artifact = Artifact.open(make_artifact("BertForMaskedLM"))
    opened.clear()
    pool = SessionPool(
        artifact,
        threads=Threads(2, "for the test"),
        allow_spinning=False,
        max_batch_tokens="auto",
        workers="auto",
    )
    assert pool.info()["worker_max_batch_tokens"] == 256
    narrow = pool.narrow(2)
    copy = pickle.loads(pickle.dumps(pool))
    assert opened == []
    ids = np.ones((1, 3), np.int64)
    inputs = {"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids}
    for _ in range(2):
        narrow.session.run(inputs)
    assert opened == [1]
    pool.wide.session.run(inputs)
    assert opened == [1, 2]
    pool.close()
    copy.wide.session.run(inputs)
    copy.close()
    assert opened == [1, 2, 2]


def test_info_of_a_runtime_opens_no_session(
    make_artifact: Callable[..., Path], opened: list[int]
) -> None:
    path = make_artifact("BertForMaskedLM")
    opened.clear()
    with bertrt.load(path, threads=2) as rt:
        assert rt.info["workers"] == 2
    assert opened == []
