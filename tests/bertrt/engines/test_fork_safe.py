"""Resources that each process opens on first use, and CUDA, which does not survive a fork."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bertrt.engines.fork_safe import ForkSafe
from bertrt.errors import ArtifactError, BertrtError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Resource(ForkSafe):
    """A resource that counts how often it is opened, and is the list of its name."""

    _settings = ("name",)

    def __init__(self, name: str, check: Any = None, error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        super().__init__(check)

    def _reset(self) -> None:
        super()._reset()
        self.times_opened = 0

    def _make(self) -> list[str]:
        self.times_opened += 1
        if self.__dict__.get("error"):
            raise self.error  # type: ignore[misc]
        return [self.name]

    def use(self) -> list[str]:
        value: list[str] = self._open()
        return value


def test_a_resource_is_opened_once_on_first_use() -> None:
    resource = Resource("graph")
    assert resource.times_opened == 0
    first = resource.use()
    assert first == ["graph"]
    assert resource.use() is first
    assert resource.times_opened == 1


def test_many_threads_open_a_resource_once() -> None:
    barrier = threading.Barrier(8, timeout=60)

    class SlowResource(Resource):
        def _make(self) -> list[str]:
            threading.Event().wait(0.02)
            return super()._make()

    resource = SlowResource("graph")

    def use(_: int) -> list[str]:
        barrier.wait()
        return resource.use()

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(use, range(8)))
    assert all(value is values[0] for value in values)
    assert resource.times_opened == 1


def test_a_failed_opening_is_tried_again() -> None:
    resource = Resource("graph", error=BertrtError("no provider"))
    for _ in range(2):
        with pytest.raises(BertrtError, match="no provider"):
            resource.use()
    resource.error = None
    assert resource.use() == ["graph"]
    assert resource.times_opened == 3


def test_a_closed_resource_is_an_error() -> None:
    resource = Resource("graph")
    resource.check_open()
    value = resource.use()
    resource.close()
    resource.close()
    assert value == ["graph"]  # a run that has begun keeps what it uses
    with pytest.raises(BertrtError, match="this runtime is closed: load the artifact again"):
        resource.use()
    with pytest.raises(BertrtError, match="closed"):
        resource.check_open()


def test_a_pickled_resource_has_only_its_settings() -> None:
    resource = Resource("graph")
    resource.use()
    resource.unpicklable = threading.Lock()  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(resource))
    assert not hasattr(copy, "unpicklable")
    assert copy.times_opened == 0
    assert copy.use() == ["graph"]
    resource.close()
    copy.check_open()
    assert pickle.loads(pickle.dumps(resource)).use() == ["graph"]


AFTER_MAIN = """
import sys, threading, time
import bertrt

batcher = bertrt.load(sys.argv[1], threads=1).batcher()

def ask():
    threading.main_thread().join()
    print(len(batcher("the [MASK] sat")), flush=True)
    batcher.close()

threading.Thread(target=ask).start()
"""


def test_a_batcher_is_first_used_after_the_main_thread(
    make_artifact: Callable[..., Path],
) -> None:
    """No executor starts a thread then; files are checked all the same."""
    path = make_artifact("BertForMaskedLM")
    command = [sys.executable, "-P", "-c", AFTER_MAIN]
    done = subprocess.run(
        [*command, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("5\n", "")


def test_the_check_runs_inline_if_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    checks: list[str] = []
    resource = Resource("graph", lambda: checks.append(threading.current_thread().name))
    assert resource.use() == ["graph"]
    assert checks == [threading.current_thread().name]

    def fail() -> None:
        raise ArtifactError("the hash differs")

    damaged = Resource("graph", fail)
    with pytest.raises(ArtifactError, match="the hash differs"):
        damaged.use()
    assert damaged.times_opened == 0


def test_the_check_runs_until_it_has_passed_once() -> None:
    checks: list[str] = []

    def check() -> None:
        checks.append(threading.current_thread().name)
        if len(checks) == 1:
            raise ArtifactError("model.onnx is not the file that was exported")

    resource = Resource("graph", check)
    with pytest.raises(ArtifactError, match="not the file"):
        resource.use()
    assert resource.use() == ["graph"]
    assert resource.use() == ["graph"]
    assert len(checks) == 2
    assert threading.current_thread().name not in checks  # it runs while the graph is opened


def test_a_damaged_file_explains_a_failed_opening() -> None:
    def check() -> None:
        raise ArtifactError("its hash differs")

    resource = Resource("graph", check, error=BertrtError("cannot parse"))
    with pytest.raises(ArtifactError, match="its hash differs"):
        resource.use()


# Forks are tested in processes of their own, whose only threads are the ones that a test starts.
PRELUDE = """
import os, sys, threading, types
from bertrt.engines.fork_safe import (
    ForkSafe, after_fork_in_child, check_cuda_after_fork, mark_cuda_in_use
)
from bertrt.errors import BertrtError

def in_child(function):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            print(function(), flush=True)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def cuda():
    try:
        check_cuda_after_fork()
    except BertrtError as error:
        return f"refused: {error}"
    return "allowed"

class Resource(ForkSafe):
    _settings = ()
    def _make(self):
        return Value()
    def use(self):
        return self._open()

class Value:
    def __init__(self):
        self.process = os.getpid()
    def __del__(self):
        if os.getpid() != self.process:
            print("freed in the child", flush=True)

def fake_torch(initialized):
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(is_initialized=lambda: initialized)
    sys.modules["torch"] = torch
"""

CHILDREN = {
    "the child opens a resource again": (
        """
resource = Resource()
value = resource.use()
in_child(lambda: resource.use().process == os.getpid() and resource.use() is not value)
print(resource.use() is value)
""",
        ["True", "True"],
    ),
    "the parent's value is not freed in the child": (
        """
import gc
resource = Resource()
resource.use()
def close():
    resource.close()
    gc.collect()
    return "closed"
in_child(close)
""",
        ["closed"],
    ),
    "a closed resource stays closed": (
        """
resource = Resource()
resource.close()
def use():
    try:
        resource.use()
    except BertrtError as error:
        return error
in_child(use)
""",
        ["this runtime is closed: load the artifact again"],
    ),
    "a lock that another thread holds is free in the child": (
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads
resource, held, done = Resource(), threading.Event(), threading.Event()
def hold():
    with resource._lock:
        held.set()
        done.wait(60)
thread = threading.Thread(target=hold)
thread.start()
held.wait(60)
in_child(lambda: resource.use().process == os.getpid())
done.set()
thread.join()
""",
        ["True"],
    ),
    "resets run in each child and not in the parent": (
        """
calls = []
after_fork_in_child(lambda: calls.append("reset"))
in_child(lambda: calls)
in_child(lambda: calls)
print(calls)
""",
        ["['reset']", "['reset']", "[]"],
    ),
    "a process without CUDA may fork": ("print(cuda()); in_child(cuda)", ["allowed", "allowed"]),
    "CUDA that the parent used is refused in the child": (
        "mark_cuda_in_use(); print(cuda()); in_child(cuda); print(cuda())",
        ["allowed", "refused", "allowed"],
    ),
    "CUDA stays refused in the child's children": (
        "mark_cuda_in_use(); in_child(lambda: in_child(cuda))",
        ["refused", "None"],
    ),
    "a child may use CUDA first": (
        "in_child(lambda: mark_cuda_in_use() or cuda()); in_child(cuda)",
        ["allowed", "allowed"],
    ),
    "PyTorch used CUDA before the fork": (
        "fake_torch(True); print(cuda()); in_child(cuda)",
        ["allowed", "refused"],
    ),
    "PyTorch did not use CUDA": ("fake_torch(False); in_child(cuda)", ["allowed"]),
    "PyTorch is still being imported": (
        "sys.modules['torch'] = types.ModuleType('torch'); in_child(cuda)",
        ["allowed"],
    ),
}


@needs_fork
@pytest.mark.parametrize(("code", "lines"), CHILDREN.values(), ids=CHILDREN)
def test_after_a_fork(code: str, lines: list[str]) -> None:
    command = [sys.executable, "-P", "-c", PRELUDE + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    sentence = (
        "refused: CUDA was in use before this process was forked, and does not survive a fork: "
        "start processes with the 'spawn' method, or fork before anything uses the GPU"
    )
    assert printed == [sentence if line == "refused" else line for line in lines]


@needs_fork
def test_importing_fork_safe_does_not_import_pytorch() -> None:
    code = "import sys, bertrt.engines.fork_safe; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
