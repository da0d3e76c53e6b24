"""A cache of published artifacts on one node's disk.

An entry is an artifact's directory, named by the sha256 of its manifest, which in turn has the hash
of every other file. It appears complete or not at all, and is checked whenever it is opened.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import MANIFEST, Manifest
from bertrt.errors import ArtifactError
from bertrt.staging import remove, staged_directory

__all__ = ["cache_directory", "fetch"]

Read = Callable[[str], bytes | memoryview]


def cache_directory() -> Path:
    """Return where a node keeps artifacts: `BERTRT_CACHE`, or `bertrt` in the user's cache.

    Raises ArtifactError if there is neither.
    """
    if chosen := os.environ.get("BERTRT_CACHE"):
        return Path(chosen).absolute()
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder).absolute() / "bertrt"
    try:
        return Path.home() / ".cache" / "bertrt"
    except RuntimeError as error:  # as in a container whose user has no name
        raise ArtifactError(
            "this process has no home directory to keep artifacts in: set BERTRT_CACHE to a "
            "directory with room on each node"
        ) from error


def fetch(cache: Path, digest: str, read: Read) -> Path:
    """Return the cache's directory of an artifact, and read its files if it is not there whole.

    One process of a node reads at a time. Those that come meanwhile wait and find the entry. One
    that is damaged is replaced; who has its files open keeps them. A cache that has the entry may
    be full or read-only.

    Args:
        cache: the directory of all entries, on a disk of the node.
        digest: the sha256 of the artifact's manifest, in hexadecimal.
        read: returns a file's content by its name in the artifact.

    Raises ArtifactError for content with another hash, and if the cache cannot be written.
    """
    entry = cache / digest
    if _is_whole(entry, digest):
        return entry
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{digest}.lock"):
            if not _is_whole(entry, digest):
                _write(entry, digest, read)
    except OSError as error:
        raise ArtifactError(
            f"the artifact cannot be kept in {cache} ({error.strerror or error}): set BERTRT_CACHE "
            "to a directory with room on each node"
        ) from error
    return entry


def _is_whole(entry: Path, digest: str) -> bool:
    try:
        if sha256((entry / MANIFEST).read_bytes()).hexdigest() != digest:
            return False
        Artifact.open(entry)
    except (OSError, ArtifactError):
        return False
    return True


def _write(entry: Path, digest: str, read: Read) -> None:
    """Write an entry, and check it before it appears."""
    # Who holds the lock is alone, so that these are of processes that were killed. Their ids say
    # nothing: they may be those of others now, and containers that share a cache number their own.
    for kind in ("partial", "replaced"):
        for leftover in entry.parent.glob(f".{entry.name}.{kind}-*"):
            remove(leftover)
    with staged_directory(entry, lambda: None) as stage:
        manifest = bytes(read(MANIFEST))
        if sha256(manifest).hexdigest() != digest:
            raise ArtifactError(f"the manifest that was published is not that of {digest}")
        (stage / MANIFEST).write_bytes(manifest)
        names = [file.name for file in Manifest.from_json(manifest.decode()).files]
        for name in names:
            path = stage / name
            if not path.resolve().is_relative_to(stage.resolve()):
                raise ArtifactError(f"{MANIFEST} names {name!r}, which is outside its directory")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(name))
        Artifact.open(stage)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of this node; the system frees it when the process ends, however it ends."""
    import fcntl  # not on Windows

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
