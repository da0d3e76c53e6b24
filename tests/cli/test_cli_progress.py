"""The progress bar: on a terminal only, and gone at the end."""

import contextlib
import io
import sys

import pytest

from bertrt.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress() as show:
        show(0.25, "trace")
        show(0.25, "trace")
        show(1.5, "write")
    clear = "\r\x1b[K"
    assert terminal.getvalue() == (
        f"{clear}[#####---------------] trace{clear}[####################] write{clear}"
    )


def test_wiped_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with contextlib.suppress(ZeroDivisionError), progress() as show:
        show(0, "trace")
        show(1 / 0, "fuse")
    assert terminal.getvalue().endswith("trace\r\x1b[K")


def test_nothing_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as show:
        show(0.5, "trace")
    assert capsys.readouterr() == ("", "")
