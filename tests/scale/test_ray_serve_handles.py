"""Calls through a DeploymentHandle, without HTTP."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import serve

import bertrt
import bertrt.ray
from ray_serve import local_cluster

ARTIFACTS = Path(os.environ["ARTIFACTS"])
TEXTS = ["Plants create oxygen.", "a", "John Smith works at Google in New York.", ""]
DOCUMENTS = ["Mary lives in London.", "The cat sat on the mat.", "she has lived there since 1998"]
# float32 sums in batches of other sizes.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with local_cluster() as url:
        yield url


@pytest.fixture(scope="module")
def handle(cluster: str) -> Any:
    models = [ARTIFACTS / name for name in ("embedder", "reranker", "sentiment")]
    return serve.run(bertrt.ray.BertReplica.bind(models), name="plain", route_prefix=None)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Any]:
    """A factory: the name of an artifact to its runtime."""
    opened: dict[str, bertrt.Runtime] = {}

    def load(name: str) -> bertrt.Runtime:
        if name not in opened:
            opened[name] = bertrt.load(ARTIFACTS / name, threads=1)
        return opened[name]

    yield load
    for one in opened.values():
        one.close()


def test_vectors(handle: Any, runtime: Any) -> None:
    embedder = runtime("embedder")
    expected = embedder.embed(TEXTS)
    assert abs(expected[0] - expected[1]).max() > 1e-2
    got = handle.embed.remote(TEXTS, model="embedder").result()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, **TOLERANCE)
    one = handle.embed.remote(TEXTS[0], model="embedder").result()
    np.testing.assert_allclose(one, expected[0], **TOLERANCE)
    short = handle.embed.remote(TEXTS, model="embedder", dimensions=8, normalize=True).result()
    np.testing.assert_allclose(
        short, embedder.embed(TEXTS, dimensions=8, normalize=True), **TOLERANCE
    )


def test_scores_and_ranks(handle: Any, runtime: Any) -> None:
    reranker = runtime("reranker")
    pairs = [("Where does Mary live?", document) for document in DOCUMENTS]
    got = handle.score.remote(pairs, model="reranker").result()
    np.testing.assert_allclose(got, reranker.score(pairs), **TOLERANCE)
    one = handle.score.remote(pairs[0], model="reranker").result()
    assert one == pytest.approx(reranker.score(pairs[0]), rel=1e-5)
    expected = reranker.rank(pairs[0][0], DOCUMENTS, top_k=2, return_documents=True)
    ranked = handle.rank.remote(
        pairs[0][0], DOCUMENTS, model="reranker", top_k=2, return_documents=True
    ).result()
    assert [one["text"] for one in ranked] == [one["text"] for one in expected]
    assert handle.rank.remote("q", [], model="reranker").result() == []


def test_calls(handle: Any, runtime: Any) -> None:
    expected = runtime("sentiment")(TEXTS[:3], top_k=None)
    got = handle.remote(TEXTS[:3], model="sentiment", top_k=None).result()
    for one, other in zip(got, expected, strict=True):
        assert [label["label"] for label in one] == [label["label"] for label in other]
        assert [label["score"] for label in one] == pytest.approx(
            [label["score"] for label in other], rel=1e-5
        )
    one = handle.remote(TEXTS[0], model="sentiment").result()
    assert one["label"] == expected[0][0]["label"]


def test_errors_are_the_library_s(handle: Any) -> None:
    with pytest.raises(bertrt.InputError, match="give one of 'embedder', 'reranker', 'sentiment'"):
        handle.embed.remote("a").result()
    with pytest.raises(bertrt.InputError, match="model is 'x'"):
        handle.embed.remote("a", model="x").result()
    with pytest.raises(bertrt.InputError):
        handle.embed.remote(7, model="embedder").result()
    with pytest.raises(bertrt.InputError, match="pooling"):
        handle.embed.remote("a", model="embedder", pooling="none").result()


def test_calls_at_the_same_time(handle: Any, runtime: Any) -> None:
    texts = [f"text number {number} about the cat" for number in range(100)]

    async def all_at_once() -> Any:
        calls = [handle.embed.remote(text, model="embedder") for text in texts]
        return np.stack(await asyncio.gather(*calls))

    np.testing.assert_allclose(
        asyncio.run(all_at_once()), runtime("embedder").embed(texts), **TOLERANCE
    )


def test_an_application_has_the_methods_too(cluster: str, runtime: Any) -> None:
    handle = serve.run(bertrt.ray.app(ARTIFACTS / "embedder"), name="http", route_prefix="/http")
    expected = runtime("embedder").embed(TEXTS)
    np.testing.assert_allclose(handle.embed.remote(TEXTS).result(), expected, **TOLERANCE)
    np.testing.assert_allclose(
        handle.answer.remote(TEXTS).result()[2], runtime("embedder")(TEXTS)[2], **TOLERANCE
    )
    serve.delete("http")


def test_threads_are_the_cpus_that_ray_reserves(cluster: str) -> None:
    from bertrt.ray.replica import Replica

    class Telling(Replica):
        async def threads(self) -> int:
            return next(iter(self._context.models)).runtime.info["threads"]

    told = {}
    for cpus, given in ((2, {}), (0.5, {}), (1, {"threads": 2})):
        deployment = serve.deployment(name="telling", ray_actor_options={"num_cpus": cpus})(Telling)
        handle = serve.run(
            deployment.bind(ARTIFACTS / "embedder", **given), name="telling", route_prefix=None
        )
        told[cpus] = handle.threads.remote().result()
    serve.delete("telling")
    assert told == {2: min(2, len(os.sched_getaffinity(0))), 0.5: 1, 1: 2}


def test_an_artifact_that_is_not_there_is_told(cluster: str, tmp_path: Path) -> None:
    app = bertrt.ray.app(tmp_path / "nothing")
    with pytest.raises(RuntimeError, match="failed"):
        serve.run(app, name="bad", route_prefix="/bad")
    status = serve.status().applications["bad"]
    messages = [one.message for one in status.deployments.values()]
    assert any("is not a directory" in message for message in messages), messages
    serve.delete("bad")
