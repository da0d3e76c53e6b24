"""A file appears complete or not at all, and leftovers of killed processes are removed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bertrt.cli.staged_file import staged_file
from bertrt.errors import InputError


def write(output: Path, text: str, *, overwrite: bool = False) -> None:
    with staged_file(output, overwrite=overwrite) as stage:
        stage.write_text(text)
        assert stage.parent == output.parent
        if text == "half":
            raise RuntimeError("midway")


def test_appears_complete(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "file.npy"
    write(output, "whole")
    assert output.read_text() == "whole"
    with pytest.raises(InputError, match="exists: pass --overwrite"):
        write(output, "new")
    write(output, "new", overwrite=True)
    assert output.read_text() == "new"
    assert list(output.parent.iterdir()) == [output]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "file.npy"
    with pytest.raises(RuntimeError, match="midway"):
        write(output, "half")
    assert list(tmp_path.iterdir()) == []
    write(output, "whole")
    with pytest.raises(RuntimeError, match="midway"):
        write(output, "half", overwrite=True)
    assert output.read_text() == "whole"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "file.npy"
    staged = staged_file(output, overwrite=False)
    staged.__enter__().write_text("mine")
    output.write_text("another's")
    with pytest.raises(InputError, match="exists: pass --overwrite"):
        staged.__exit__(None, None, None)
    assert output.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [output]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from bertrt.cli.staged_file import staged_file\n"
        "with staged_file(pathlib.Path(sys.argv[1]), overwrite=False) as stage:\n"
        "    stage.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    output = tmp_path / "[file].npy"
    done = subprocess.run([sys.executable, "-c", code, str(output)], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()
    assert len(list(tmp_path.iterdir())) == 1
    running = tmp_path / f".[file].npy.partial-{os.getppid()}"
    running.write_text("another process still writes this")
    other = tmp_path / ".other.npy.partial-1"
    other.write_text("of another output")
    write(output, "whole")
    assert set(tmp_path.iterdir()) == {running, other, output}
