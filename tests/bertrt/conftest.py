"""Run the runtime's tests in an environment without PyTorch, on artifacts made in one with it.

With BERTRT_TEST_ARTIFACTS set to a folder, the development environment leaves there every artifact
and every answer of transformers that the tests use. An environment with the runtime alone, given
the same folder, reads them, and skips the tests that need more. `make pythons` does both.
"""

import contextlib
import hashlib
import importlib.util
import inspect
import os
import pickle
import re
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("BERTRT_TEST_ARTIFACTS")
REPLAY = FOLDER is not None and importlib.util.find_spec("torch") is None
# Packages that only the exporter, the Triton engine, Parquet files or a reference needs.
LEFT_OUT = ("h5py", "huggingface_hub", "msgpack", "onnx", "onnx_ir", "onnxscript", "safetensors")
LEFT_OUT += ("pyarrow", "torch", "transformers", "triton")
# Fixtures that return transformers' pipeline, or a function that gives transformers' answer.
RECORDED = ("pipe", "reference")
# `bertrt export` says in words that packages are missing, and these tests expect other words.
collect_ignore = ["cli/test_export.py"] if REPLAY else []

# The tests of forks fork in a process with threads, of which Python 3.12 and later warn.
os.environ.setdefault("PYTHONWARNINGS", "ignore:This process:DeprecationWarning")


def _left_out(error: BaseException | None) -> str | None:
    """The package whose absence is the cause of an error, if it is one of LEFT_OUT."""
    while REPLAY and error is not None:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if name and name.partition(".")[0] in LEFT_OUT:
            return name.partition(".")[0]
        error = error.__cause__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    missing = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if REPLAY and missing is not None and missing[1] in LEFT_OUT:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {missing[1]}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with _skip_if_left_out():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with _skip_if_left_out():
        yield


@contextlib.contextmanager
def _skip_if_left_out() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if name := _left_out(error):
            pytest.skip(f"needs {name}")
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    if FOLDER is None or fixturedef.argname not in RECORDED:
        return
    name, make = f"{fixturedef.baseid} {fixturedef.argname}", fixturedef.func
    folder = Path(FOLDER) / "answers"
    if getattr(make, "func", None) is not _Recorded.make:
        fixturedef.func = partial(_Recorded.make, folder, name, make)


class _Recorded:
    """An object whose answers are written to a folder, or read from it where it is missing.

    Recorded are calls, methods, and attributes that are numbers or strings. What else a test
    does with the object is not, and such a test is skipped where the object is missing.
    """

    @classmethod
    def make(cls, folder: Path, name: str, create: Callable[..., Any], **fixtures: Any) -> Any:
        return cls(folder, name, None if REPLAY else create(**fixtures))

    def __init__(self, folder: Path, name: str, real: Any) -> None:
        self._folder, self._name, self._real = folder, name, real

    def __call__(self, *args: Any, **options: Any) -> Any:
        path = self._path("call", args, sorted(options.items()))
        if self._real is None:
            return _read(path)
        answer = self._real(*args, **options)
        _write(path, answer)
        return answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        path = self._path("value", name)
        if self._real is None:
            below = _Recorded(self._folder, f"{self._name}.{name}", None)
            return _read(path) if path.exists() else below
        value = getattr(self._real, name)
        if inspect.ismethod(value):
            return _Recorded(self._folder, f"{self._name}.{name}", value)
        if isinstance(value, int | float | str):
            _write(path, value)
        return value

    def _path(self, *key: Any) -> Path:
        # A test may change an object, so that the same call has another answer in another test.
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        digest = hashlib.sha256(repr((self._name, test, key)).encode()).hexdigest()
        return self._folder / f"{digest[:24]}.pickle"


class _Encoding(dict[str, Any]):
    """What transformers' tokenizers return, as far as the tests read it."""

    words: list[int | None]

    def word_ids(self) -> list[int | None]:
        return self.words


def _write(path: Path, answer: Any) -> None:
    words = None
    if hasattr(answer, "word_ids"):
        answer, words = dict(answer), answer.word_ids()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps((answer, words)))


def _read(path: Path) -> Any:
    if not path.exists():
        pytest.skip("needs transformers: this answer is not recorded")
    answer, words = pickle.loads(path.read_bytes())
    if words is not None:
        answer = _Encoding(answer)
        answer.words = words
    return answer
