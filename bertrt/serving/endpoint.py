"""Where the server listens: an address and a port, or the file of a Unix socket."""

import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertrt.errors import BertrtError

__all__ = ["Endpoint", "allow_descriptors"]

# The owner of a Unix socket's file and its group may connect; connecting takes the right to write.
_MODE = 0o660


@dataclass
class Endpoint:
    """A socket that listens.

    Attributes:
        socket: what connections are accepted from.
        file: the path, the device and the inode of a Unix socket's file; None for an address.
    """

    socket: socket.socket
    file: tuple[Path, int, int] | None = None

    @classmethod
    def tcp(cls, host: str, port: int, backlog: int) -> "Endpoint":
        """Listen on an address; port 0 is any free one.

        A connection from now on waits, and is not refused. Raises BertrtError if that is not
        possible.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = socket.socket(family)
            with _closed_on_error(bound):
                if os.name == "posix":  # elsewhere the option means another thing
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(address)
                bound.listen(backlog)
        except OSError as error:
            raise BertrtError(f"cannot listen on {host} port {port}: {error.strerror}") from error
        return cls(bound)

    @classmethod
    def unix(cls, path: Path, backlog: int) -> "Endpoint":
        """Listen on a Unix socket, in place of the file that a dead server has left.

        Raises BertrtError for any other file at this path, and if it cannot be made.
        """
        if not hasattr(socket, "AF_UNIX"):
            raise BertrtError("this system has no Unix sockets: give --port")
        path = path.absolute()
        try:
            _remove_stale(path)
            bound = socket.socket(socket.AF_UNIX)
            with _closed_on_error(bound):
                bound.bind(str(path))
                path.chmod(_MODE)  # nobody can connect before the next line
                bound.listen(backlog)
                made = path.stat()
        except OSError as error:
            # Python's own error for a path that is too long has no strerror.
            raise BertrtError(f"cannot listen on {path}: {error.strerror or error}") from error
        return cls(bound, (path, made.st_dev, made.st_ino))

    @property
    def address(self) -> str:
        """The IP address; "" for a Unix socket."""
        return "" if self.file else str(self.socket.getsockname()[0])

    @property
    def is_private(self) -> bool:
        """Whether only this machine can connect."""
        return self.file is not None or ipaddress.ip_address(self.address).is_loopback

    def url(self, scheme: str) -> str:
        """Return where clients find it: `http://127.0.0.1:8080`, or `unix:/run/bertrt.sock`."""
        if self.file:
            return f"unix:{self.file[0]}"
        address, port = self.socket.getsockname()[:2]
        return (
            f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
        )

    def remove_file(self) -> None:
        """Remove a Unix socket's file, unless another server has put its own there.

        Call it before the socket is closed: its inode may belong to another file afterwards.
        """
        if self.file is None:
            return
        path, *made = self.file
        with contextlib.suppress(OSError):
            found = path.lstat()
            if [found.st_dev, found.st_ino] == made:
                path.unlink()


def allow_descriptors(count: int) -> None:
    """Raise the soft limit on open files, which is often lower than that on connections."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _closed_on_error(bound: socket.socket) -> Iterator[None]:
    try:
        yield
    except OSError:
        bound.close()
        raise


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises BertrtError for any other file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BertrtError(f"cannot listen on {path}: it is a file of another kind")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass  # its queue is full
    raise BertrtError(f"cannot listen on {path}: another server does")
