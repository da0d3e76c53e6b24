"""`--uds`: the server listens on a Unix socket."""

import http.client
import os
import socket
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import BertrtError
from bertrt.serving.endpoint import Endpoint


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket is to be; its path is short enough for one."""
    return tmp_path / "s"


def test_a_server_on_a_unix_socket(serve: Any, ask: Any, embedder: Path, path: Path) -> None:
    _leave_stale(path)
    process = serve(embedder, "--uds", path)
    assert process.wait_until_ready() == {"url": f"unix:{path}", "models": [embedder.name]}
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660

    connection = UnixConnection(path)
    for text in ("a", "the cat"):
        answer = ask(0, "POST", "/embed", {"inputs": text}, connection=connection)
        assert answer.status == 200
    connection.close()
    with bertrt.load(embedder, threads=1) as runtime:
        np.testing.assert_allclose(answer.json, runtime.embed(["the cat"]), atol=1e-6)

    second = serve(embedder, "--uds", path)
    assert second.wait() == (1, f"bertrt: error: cannot listen on {path}: another server does\n")
    process.stop()
    assert process.wait() == (0, "")
    assert not path.exists()


def test_options_that_exclude_each_other(serve: Any, embedder: Path, path: Path) -> None:
    status, errors = serve(embedder, "--uds", path, "--port", "1").wait()
    assert status == 2
    assert "--port: not allowed with argument --uds" in errors


def test_a_model_that_cannot_be_loaded_leaves_no_socket(serve: Any, path: Path) -> None:
    assert serve(path.parent, "--uds", path).wait()[0] == 2
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "long", "nowhere"])
def test_files_of_another_kind_are_refused_and_kept(path: Path, kind: str) -> None:
    reason = "it is a file of another kind"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(path.parent / "target")
    elif kind == "long":
        path, reason = path.parent / ("a" * 120), "AF_UNIX path too long"
    else:
        path, reason = path / "s", "No such file or directory"
    before = os.listdir(path.parent) if path.parent.exists() else None
    with pytest.raises(BertrtError, match=f"^cannot listen on {path}: {reason}$"):
        Endpoint.unix(path, 5)
    assert before == (os.listdir(path.parent) if path.parent.exists() else None)


def test_the_socket_of_the_next_server_is_kept(path: Path) -> None:
    """A server that ends removes the file only if it is its own."""
    old = Endpoint.unix(path, 5)
    path.unlink()
    new = Endpoint.unix(path, 5)
    with old.socket, new.socket:
        old.remove_file()
        assert path.exists()
        new.remove_file()
        assert not path.exists()
        new.remove_file()


def _leave_stale(path: Path) -> None:
    """Make the file of a socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
