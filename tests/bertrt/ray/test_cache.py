"""A node's cache of artifacts: read once, checked always, mended or refused."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import MANIFEST
from bertrt.errors import ArtifactError
from bertrt.ray.cache import cache_directory, fetch


class Reader:
    """Reads an artifact's files, and notes which.

    Attributes:
        digest: of its manifest.
        names: of the files that were read.
        changed: contents to give in place of the files'.
    """

    def __init__(self, artifact: Path) -> None:
        self._artifact = artifact
        self.digest = sha256((artifact / MANIFEST).read_bytes()).hexdigest()
        self.names: list[str] = []
        self.changed: dict[str, bytes] = {}

    def __call__(self, name: str) -> bytes:
        self.names.append(name)
        return self.changed.get(name) or (self._artifact / name).read_bytes()


@pytest.fixture
def reader(make_artifact: Callable[..., Path]) -> Reader:
    return Reader(make_artifact("BertModel"))


def names_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_each_file_is_read_once(reader: Reader, tmp_path: Path) -> None:
    entry = fetch(tmp_path / "cache", reader.digest, reader)
    assert entry == tmp_path / "cache" / reader.digest
    manifest = Artifact.open(entry).manifest
    assert sorted(reader.names) == sorted([MANIFEST, *(file.name for file in manifest.files)])
    assert names_in(entry) == set(reader.names)
    reader.names.clear()
    assert fetch(tmp_path / "cache", reader.digest, reader) == entry
    assert reader.names == []
    # Nothing else is left but the lock.
    assert {path.name for path in entry.parent.iterdir()} == {entry.name, f".{entry.name}.lock"}


@pytest.mark.parametrize("name", [MANIFEST, "config.json", "model.onnx"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_entry_is_mended(reader: Reader, tmp_path: Path, name: str, damage: str) -> None:
    file = fetch(tmp_path, reader.digest, reader) / name
    whole = file.read_bytes()
    opened = file.open("rb")  # by a replica that runs
    if damage == "cut":
        os.truncate(file, len(whole) // 2)
    elif damage == "changed":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        file.unlink()
    entry = fetch(tmp_path, reader.digest, reader)
    assert (entry / name).read_bytes() == whole
    Artifact.open(entry)
    opened.close()
    assert {path.name for path in tmp_path.iterdir()} == {entry.name, f".{entry.name}.lock"}


def test_what_is_in_place_of_the_entry_is_replaced(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    entry = tmp_path / reader.digest
    for put in (
        lambda: entry.write_text("not a directory"),
        lambda: entry.symlink_to("nowhere"),
        lambda: entry.symlink_to("other"),
    ):
        put()
        Artifact.open(fetch(tmp_path, reader.digest, reader))
        assert entry.is_dir()
        assert not entry.is_symlink()
        shutil.rmtree(entry)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_whole_entry_needs_nothing_to_be_written(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an image has the cache, or another replica has filled the disk."""
    entry = fetch(tmp_path, reader.digest, reader)
    reader.names.clear()
    (tmp_path / f".{reader.digest}.lock").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("bertrt.ray.cache._locked", refuse)
    assert fetch(tmp_path, reader.digest, reader) == entry
    assert reader.names == []
    os.truncate(entry / "config.json", 1)
    with pytest.raises(ArtifactError, match=r"cannot be kept in .*Read-only file system"):
        fetch(tmp_path, reader.digest, reader)


@pytest.mark.parametrize("name", [MANIFEST, "config.json", "model.onnx"])
def test_what_arrives_with_another_hash_is_refused(
    reader: Reader, tmp_path: Path, name: str
) -> None:
    reader.changed[name] = reader(name)[:-1]
    with pytest.raises(ArtifactError):
        fetch(tmp_path, reader.digest, reader)
    assert [path.name for path in tmp_path.iterdir()] == [f".{reader.digest}.lock"]


def test_a_damaged_entry_is_never_returned(reader: Reader, tmp_path: Path) -> None:
    file = fetch(tmp_path, reader.digest, reader) / "config.json"
    file.write_bytes(file.read_bytes()[:-1])

    def gone(name: str) -> bytes:
        raise ArtifactError("not published any more")

    with pytest.raises(ArtifactError, match="not published any more"):
        fetch(tmp_path, reader.digest, gone)


def test_leftovers_of_dead_processes_are_removed(reader: Reader, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    # The second has a number that another process has now, as in another container.
    names = [f"partial-{dead.pid}", f"partial-{os.getppid()}", f"replaced-{os.getppid()}"]
    leftovers = [tmp_path / f".{reader.digest}.{name}" for name in names]
    for leftover in leftovers:
        leftover.mkdir()
        (leftover / "model.onnx").write_bytes(b"half")
    fetch(tmp_path, reader.digest, reader)
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_cache_that_cannot_be_written(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot be kept in .*file.*: set BERTRT_CACHE"):
        fetch(tmp_path / "file", reader.digest, reader)


# Fetches an artifact, and prints how many files it has read for that.
FETCH = """
import sys
from hashlib import sha256
from pathlib import Path
from bertrt.artifact.manifest import MANIFEST
from bertrt.ray.cache import fetch

cache, artifact = map(Path, sys.argv[1:])
names = []

def read(name):
    names.append(name)
    return (artifact / name).read_bytes()

fetch(cache, sha256((artifact / MANIFEST).read_bytes()).hexdigest(), read)
print(len(names))
"""


def test_one_process_of_a_node_reads(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", FETCH, tmp_path / "cache", make_artifact("BertModel")]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    counts = sorted(int(process.communicate()[0]) for process in several)
    assert counts[:2] == [0, 0]
    assert counts[2] > 0


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BERTRT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == tmp_path / ".cache" / "bertrt"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_directory() == Path("/var/cache/bertrt")
    monkeypatch.setenv("BERTRT_CACHE", "/fast")
    assert cache_directory() == Path("/fast")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number."""
    for name in ("BERTRT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ArtifactError, match=r"no home directory .*: set BERTRT_CACHE"):
        cache_directory()
