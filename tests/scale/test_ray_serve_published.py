"""Artifacts that are published to a cluster: nodes fetch them once, check them, and mend them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray import serve

import bertrt
import bertrt.ray
from bertrt.artifact.directory import Artifact
from ray_serve import EMBEDDER, ask, delete_applications, local_cluster


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node's cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cluster(cache: Path) -> Iterator[str]:
    """The address of Serve on a cluster of one node."""
    with pytest.MonkeyPatch.context() as patch:
        # Workers have the environment that the cluster was started with.
        patch.setenv("BERTRT_CACHE", str(cache))
        with local_cluster() as address:
            yield address


@pytest.fixture
def url(cluster: str, cache: Path) -> Iterator[str]:
    """The same; what a test has deployed, published and cached is removed."""
    yield cluster
    delete_applications()
    for entry in cache.iterdir():
        bertrt.ray.Published(entry.name, entry.name).withdraw()
        shutil.rmtree(entry, ignore_errors=True)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A copy of the artifact, which tests may remove."""
    return Path(shutil.copytree(EMBEDDER, tmp_path / "published"))


def vector(url: str) -> Any:
    answer = ask(f"{url}/embed", {"inputs": "the cat"})
    assert answer.status == 200, answer
    return answer.json[0]


def test_the_directory_is_needed_only_once(url: str, artifact: Path, cache: Path) -> None:
    with bertrt.load(artifact, threads=1) as runtime:
        expected = runtime.embed("the cat", normalize=True)
    published = bertrt.ray.publish(artifact)
    manifest = (artifact / "bertrt.json").read_bytes()
    assert published == bertrt.ray.Published("published", sha256(manifest).hexdigest())
    shutil.rmtree(artifact)
    serve.run(bertrt.ray.app(published, num_replicas=2))
    np.testing.assert_allclose(vector(url), expected, atol=1e-5)
    assert ask(f"{url}/v1/models").json["data"][0]["id"] == "published"
    entry = cache / published.digest
    assert (entry / "bertrt.json").read_bytes() == manifest
    # A damaged cache is mended by the next replica, while the store has the artifact.
    serve.delete("default")
    _damage(entry)
    serve.run(bertrt.ray.app(published))
    np.testing.assert_allclose(vector(url), expected, atol=1e-5)
    # And refused once it has not.
    serve.delete("default")
    published.withdraw()
    published.withdraw()
    serve.run(bertrt.ray.app(published))
    np.testing.assert_allclose(vector(url), expected, atol=1e-5)
    serve.delete("default")
    _damage(entry)
    with pytest.raises(RuntimeError):
        serve.run(bertrt.ray.app(published))
    [status] = serve.status().applications["default"].deployments.values()
    assert "publish it again" in status.message, status.message


def _damage(entry: Path) -> None:
    largest = max(entry.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    os.truncate(largest, largest.stat().st_size - 1)


def test_a_damaged_artifact_is_not_published(url: str, artifact: Path) -> None:
    _damage(artifact)
    with pytest.raises(bertrt.ArtifactError, match="is not the file that was exported"):
        bertrt.ray.publish(artifact)


def test_an_artifact_that_changes_while_it_is_published(
    url: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are those of the manifest that gives the name: nodes would refuse others."""
    other = EMBEDDER.with_name("reranker")
    open_artifact = Artifact.open

    def replaced(directory: Path, **options: Any) -> Artifact:
        opened = open_artifact(directory, **options)
        shutil.rmtree(artifact)
        shutil.copytree(other, artifact)
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "open", replaced)
        published = bertrt.ray.publish(artifact)
    assert published.digest == sha256((other / "bertrt.json").read_bytes()).hexdigest()
    assert Artifact.open(published.fetch()).manifest == Artifact.open(other).manifest


PUBLISH = """
import sys, ray, bertrt.ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(bertrt.ray.publish(sys.argv[2]).digest)
"""


def test_what_is_published_outlives_the_process_that_did_it(
    url: str, artifact: Path, cache: Path
) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-P", "-c", PUBLISH, address, artifact]
    digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    shutil.rmtree(artifact)
    published = bertrt.ray.Published("published", digest)
    serve.run(bertrt.ray.app(published))
    assert len(vector(url)) > 0


def test_publishing_twice_puts_one_copy(url: str, artifact: Path) -> None:
    first = bertrt.ray.publish(artifact)
    free = ray.available_resources()["object_store_memory"]
    assert bertrt.ray.publish(artifact) == first
    assert ray.available_resources()["object_store_memory"] >= free - 1e6
    first.withdraw()
