"""Freed memory goes back to the system, and a C library without that is no error."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertrt.engines import malloc_trim
from bertrt.engines.ort_options import OrtOptions, open_session


def test_a_session_gives_back_what_opening_it_freed(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make_artifact("BertForMaskedLM") / "model.onnx"
    asked: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=asked.append))
    open_session(graph, OrtOptions("basic", threads=1))
    assert asked == [0]


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_without_glibc(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def no_library(name: Any) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    malloc_trim.trim()
