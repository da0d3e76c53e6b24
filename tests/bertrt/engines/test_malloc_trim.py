"""Freed memory goes back to the system; a C library without `malloc_trim` is not an error."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertrt.engines import malloc_trim
from bertrt.engines.ort_options import OrtOptions, open_session


def test_opening_a_session_trims_freed_memory(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make_artifact("BertForMaskedLM") / "model.onnx"
    calls: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=calls.append))
    open_session(graph, OrtOptions("basic", threads=1))
    assert calls == [0]


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_other_c_libraries_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def no_library(name: Any) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    malloc_trim.trim()
