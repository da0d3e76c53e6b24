"""Fixtures of the tests of the command line."""

import io
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    """The exit status of a command, and what it printed on standard output and error."""

    status: int
    out: str
    err: str


@pytest.fixture
def bertrt_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run a command in this process, with bytes on its standard input."""
    from bertrt.cli import main

    def run(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()  # discard what fixtures printed
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return run
