"""Progress: a bar that is drawn only on a terminal and cleared at the end, or a function."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt import progress as module
from bertrt.errors import InputError
from bertrt.progress import progress_bar

CLEAR = "\r\x1b[K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error; in the test itself, since pytest sets its own before it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "_SECONDS", 0)
    return terminal


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_wiped_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with contextlib.suppress(ZeroDivisionError), progress_bar() as draw:
        draw(0, 1, "trace")
        draw(1 // 0, 1, "fuse")
    assert terminal.getvalue().endswith(f"trace{CLEAR}")


def test_nothing_elsewhere(
    capsys: pytest.CaptureFixture[str], load_artifact: Callable[..., Any]
) -> None:
    rt = load_artifact("BertForMaskedLM")
    capsys.readouterr()
    with progress_bar() as draw:
        draw(1, 2, "trace")
    rt(["the [MASK]"] * 3, progress=True)
    assert capsys.readouterr() == ("", "")


TEXTS = [f"{'the cat ' * (n % 9)}[MASK]" for n in range(40)]


def reports(call: Callable[..., Any]) -> list[tuple[int, int | None]]:
    """The reports of a call: how many inputs are done, of how many; the words must agree."""
    found: list[tuple[int, int | None]] = []

    def report(done: int, total: int | None, what: str) -> None:
        assert what == (f"{done} inputs" if total is None else f"{done} of {total} inputs")
        found.append((done, total))

    list(call(progress=report))
    return found


def test_a_function_hears_of_each_input(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM")
    every = [(n, 40) for n in range(1, 41)]
    assert reports(lambda **options: rt(TEXTS, **options)) == every
    assert reports(lambda **options: rt(TEXTS[0], **options)) == [(1, 1)]
    assert rt(TEXTS, progress=lambda done, total, what: None) == rt(TEXTS)


def test_an_iterators_end_is_not_known(
    load_artifact: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertrt.runtime._CHUNK", 16)
    every = [(n, None) for n in range(1, 41)]
    rt = load_artifact("BertForMaskedLM")
    assert reports(lambda **options: rt(iter(TEXTS), **options)) == every
    rt = load_artifact("BertModel")
    assert reports(lambda **options: rt.embed(iter(TEXTS), **options)) == every


def test_embed(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    assert reports(lambda **options: rt.embed(TEXTS, **options)) == [(n, 40) for n in range(1, 41)]
    watched = rt.embed(TEXTS, progress=lambda done, total, what: None)
    np.testing.assert_array_equal(watched, rt.embed(TEXTS))


def test_inputs_of_several_rows(load_artifact: Callable[..., Any]) -> None:
    """An input counts when its rows are done, however many they are."""
    rt = load_artifact("BertForSequenceClassification")
    options = {"candidate_labels": ["art", "sports", "food"]}
    found = reports(lambda **more: rt(["a cat", "a dog", "a film"], **options, **more))
    assert found == [(1, 3), (2, 3), (3, 3)]


def test_generation_tells_of_its_end(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertLMHeadModel")
    options = {"max_new_tokens": 2, "do_sample": False}
    assert reports(lambda **more: rt(["the cat", "a dog"], **options, **more)) == [(2, 2)]


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
def test_refuses(load_artifact: Callable[..., Any], progress: Any) -> None:
    rt = load_artifact("BertModel")
    for call in (rt, rt.embed):
        for texts in ("the cat", iter(["the cat"])):
            with pytest.raises(InputError, match=r"progress is .*: give True"):
                call(texts, progress=progress)
