"""Put an artifact into a cluster's object store, from which its nodes fetch it once each."""

import contextlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import MANIFEST, Manifest
from bertrt.errors import ArtifactError
from bertrt.ray.cache import cache_directory, fetch

__all__ = ["Published", "publish"]

_NAMESPACE = "bertrt"


@dataclass(frozen=True)
class Published:
    """An artifact in the object store of a cluster, as an argument of `app`.

    Attributes:
        name: of the directory that was published.
        digest: the sha256 of the artifact's manifest, which has those of all its files.
    """

    name: str
    digest: str

    def fetch(self) -> Path:
        """Return the artifact's directory in this node's cache; its files are read if need be.

        Raises ArtifactError if it is not published any more, and if the cache cannot be written.
        """
        return fetch(cache_directory(), self.digest, self._read)

    def withdraw(self) -> None:
        """Free the objects. Nodes that have the artifact keep it."""
        with contextlib.suppress(ValueError):  # it was withdrawn
            ray.kill(ray.get_actor(_shelf_name(self.digest), _NAMESPACE))

    def _read(self, name: str) -> memoryview:
        try:
            shelf = ray.get_actor(_shelf_name(self.digest), _NAMESPACE)
            [file] = ray.get(shelf.get.remote(name))
            return memoryview(ray.get(file))
        except (ValueError, RayError) as error:
            raise ArtifactError(
                f"{self.name!r} is not in the cluster's object store any more, and not whole in "
                f"this node's cache ({type(error).__name__}): publish it again"
            ) from error


def publish(directory: str | Path) -> Published:
    """Put an artifact's files into the cluster's object store, one object each.

    Each node on which a replica starts writes them to its cache, `BERTRT_CACHE` or else
    `~/.cache/bertrt`, in a directory named by the manifest's sha256, and checks every hash. The
    objects stay until they are withdrawn, or the node that they are on goes away; publishing the
    same artifact again does nothing while they are there.

    Raises ArtifactError if the directory is not a valid artifact.
    """
    path = Artifact.open(directory, large_files_later=True).path
    # The files have to be those of the manifest that gives the name, also when another export
    # takes the artifact's place meanwhile.
    manifest = (path / MANIFEST).read_bytes()
    files = Manifest.from_json(manifest.decode(), str(path / MANIFEST)).files
    published = Published(path.name, sha256(manifest).hexdigest())
    shelf = _open_shelf(_shelf_name(published.digest))
    if not ray.get(shelf.has.remote(MANIFEST)):
        for entry in files:
            content = np.fromfile(path / entry.name, np.uint8)
            if sha256(content.data).hexdigest() != entry.sha256:
                raise ArtifactError(
                    f"{path / entry.name} is not the file that was exported: copy the artifact "
                    "again, or export the checkpoint again"
                )
            ray.get(shelf.put.remote(entry.name, content))
        # The last one: what has it is whole.
        ray.get(shelf.put.remote(MANIFEST, np.frombuffer(manifest, np.uint8)))
    return published


def _open_shelf(name: str) -> Any:
    """Return the actor with a name, which is made if there is none."""
    # Objects belong to who puts them, and are freed with it: this process may end soon.
    options = {"namespace": _NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return ray.remote(_Shelf).options(name=name, num_cpus=0, **options).remote()


class _Shelf:
    """Owns the objects of one artifact."""

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        return name in self._files

    def put(self, name: str, content: np.ndarray) -> None:
        self._files[name] = ray.put(content)

    def get(self, name: str) -> list[Any]:
        """Return the reference to a file's content, in a list so that Ray does not resolve it."""
        return [self._files[name]]


def _shelf_name(digest: str) -> str:
    return f"artifact {digest}"
