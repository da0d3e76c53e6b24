"""Progress: a bar on a terminal, cleared at the end, or calls of a function."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt import progress as module
from bertrt.errors import InputError
from bertrt.progress import progress_bar, progress_steps

CLEAR = "\r\x1b[K"


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> FakeTerminal:
    """Make standard error a terminal. Not a fixture: pytest replaces standard error after those."""
    terminal = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "_SECONDS", 0)
    return terminal


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with progress_bar() as draw:
        draw(1, 4, "trace")
        draw(1, 4, "trace")
        draw(6, 4, "write")
        draw(5, None, "5 lines")
    assert terminal.getvalue() == (
        f"{CLEAR}[#####---------------] trace{CLEAR}[####################] write"
        f"{CLEAR}5 lines{CLEAR}"
    )


def test_the_bar_is_cleared_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with contextlib.suppress(ZeroDivisionError), progress_bar() as draw:
        draw(0, 1, "trace")
        draw(1 // 0, 1, "fuse")
    assert terminal.getvalue().endswith(f"trace{CLEAR}")


def test_each_step_leaves_a_line_with_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    clock = iter([10.0, 12.5, 12.5, 15.75])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress_steps() as report:
        report(0, 2, "1/2 trace")
        report(0, 2, "1/2 trace: layer 1")
        report(1, 2, "2/2 write")
    lines = terminal.getvalue().split("\n")
    assert [line.rpartition(CLEAR)[2] for line in lines] == [
        "   2.5 s  1/2 trace",
        "   3.2 s  2/2 write",
        "",
    ]
    assert "trace: layer 1" in lines[0]


def test_a_step_that_fails_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with contextlib.suppress(ZeroDivisionError), progress_steps() as report:
        report(0, 1, "trace")
        report(1 // 0, 1, "fuse")
    assert "\n" not in terminal.getvalue()


def test_a_bar_of_no_steps_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with progress_bar() as draw:
        draw(0, 0, "measure")
    assert f"[{'#' * 20}] measure" in terminal.getvalue()


def test_nothing_is_drawn_without_a_terminal(
    capsys: pytest.CaptureFixture[str], load_artifact: Callable[..., Any]
) -> None:
    rt = load_artifact("BertForMaskedLM")
    capsys.readouterr()
    with progress_bar() as draw:
        draw(1, 2, "trace")
    with progress_steps() as report:
        report(1, 2, "trace")
    rt(["the [MASK]"] * 3, progress=True)
    assert capsys.readouterr() == ("", "")


TEXTS = [f"{'the cat ' * (n % 9)}[MASK]" for n in range(40)]


def record_reports(call: Callable[..., Any]) -> list[tuple[int, int | None]]:
    """Return a call's reports as (done, total), and check that the words say the same."""
    reports: list[tuple[int, int | None]] = []

    def report(done: int, total: int | None, what: str) -> None:
        assert what == (f"{done} inputs" if total is None else f"{done} of {total} inputs")
        reports.append((done, total))

    list(call(progress=report))
    return reports


def test_a_function_is_called_for_each_input(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM")
    every = [(n, 40) for n in range(1, 41)]
    assert record_reports(lambda **options: rt(TEXTS, **options)) == every
    assert record_reports(lambda **options: rt(TEXTS[0], **options)) == [(1, 1)]
    assert rt(TEXTS, progress=lambda done, total, what: None) == rt(TEXTS)


def test_an_iterator_has_no_total(
    load_artifact: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertrt.methods.answering._CHUNK", 16)
    every = [(n, None) for n in range(1, 41)]
    rt = load_artifact("BertForMaskedLM")
    assert record_reports(lambda **options: rt(iter(TEXTS), **options)) == every
    rt = load_artifact("BertModel")
    assert record_reports(lambda **options: rt.embed(iter(TEXTS), **options)) == every


def test_embed_reports_progress(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    assert record_reports(lambda **options: rt.embed(TEXTS, **options)) == [
        (n, 40) for n in range(1, 41)
    ]
    vectors = rt.embed(TEXTS, progress=lambda done, total, what: None)
    np.testing.assert_array_equal(vectors, rt.embed(TEXTS))


def test_inputs_of_several_rows(load_artifact: Callable[..., Any]) -> None:
    """An input counts when all its rows are done."""
    rt = load_artifact("BertForSequenceClassification")
    options = {"candidate_labels": ["art", "sports", "food"]}
    reports = record_reports(lambda **more: rt(["a cat", "a dog", "a film"], **options, **more))
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_generation_reports_only_its_end(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertLMHeadModel")
    options = {"max_new_tokens": 2, "do_sample": False}
    assert record_reports(lambda **more: rt(["the cat", "a dog"], **options, **more)) == [(2, 2)]


def test_a_bar_for_a_list_and_a_count_for_an_iterator(
    load_artifact: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rt = load_artifact("BertForMaskedLM")
    terminal = open_terminal(monkeypatch)
    rt(TEXTS, progress=True)
    assert f"{CLEAR}[##########----------] 20 of 40 inputs{CLEAR}" in terminal.getvalue()
    assert terminal.getvalue().endswith(f"[####################] 40 of 40 inputs{CLEAR}")
    terminal.truncate(0)
    answers = rt(iter(TEXTS), progress=True)
    next(answers)
    answers.close()
    assert terminal.getvalue().endswith(f"{CLEAR}40 inputs{CLEAR}")


@pytest.mark.parametrize("progress", [1, "yes", None])
def test_other_values_are_refused(load_artifact: Callable[..., Any], progress: Any) -> None:
    rt = load_artifact("BertModel")
    for call in (rt, rt.embed):
        for texts in ("the cat", iter(["the cat"])):
            with pytest.raises(InputError, match=r"progress is .*: give True"):
                call(texts, progress=progress)
