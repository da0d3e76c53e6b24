"""OpenAI's client: vectors, models, errors, and what it does when the server is busy."""

import asyncio
from typing import Any

import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from compare import same
from inputs import TEXTS


@pytest.fixture
def client(url: str, key: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def vectors(answer: Any) -> list[Any]:
    return [one.embedding for one in answer.data]


def test_vectors(client: OpenAI, expected: Any) -> None:
    answer = client.embeddings.create(model="embedder", input=TEXTS)
    same(vectors(answer), expected["embed"])
    assert [one.index for one in answer.data] == list(range(len(TEXTS)))
    assert answer.model == "embedder"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == expected["tokens"]
    one = client.embeddings.create(model="embedder", input=TEXTS[1])
    same(vectors(one), expected["embed"][1:2])


def test_base64_and_numbers_are_the_same_bits(client: OpenAI) -> None:
    # The client asks for base64 by itself.
    packed = vectors(client.embeddings.create(model="embedder", input=TEXTS))
    plain = vectors(
        client.embeddings.create(model="embedder", input=TEXTS, encoding_format="float")
    )
    np.testing.assert_array_equal(np.float32(packed), np.float32(plain))


def test_token_ids(client: OpenAI, expected: Any) -> None:
    ids = [one[1:-1] for one in expected["ids"]]
    answer = client.embeddings.create(model="embedder", input=ids)
    same(vectors(answer), expected["embed_ids"])
    same(
        vectors(client.embeddings.create(model="embedder", input=ids[0])), expected["embed_ids"][:1]
    )


def test_fewer_dimensions(client: OpenAI, expected: Any) -> None:
    answer = vectors(client.embeddings.create(model="embedder", input=TEXTS, dimensions=64))
    same(answer, expected["embed_64"])
    np.testing.assert_allclose(np.linalg.norm(answer, axis=1), 1, atol=1e-6)
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="embedder", input=TEXTS, dimensions=97)
    assert raised.value.param == "dimensions"


def test_models(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["embedder", "reranker"]
    assert client.models.retrieve("embedder").id == "embedder"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("nothing")
    assert raised.value.code == "model_not_found"


def test_a_wrong_key(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="wrong")
    with pytest.raises(openai.AuthenticationError) as raised:
        client.embeddings.create(model="embedder", input=TEXTS)
    assert raised.value.code == "invalid_api_key"


@pytest.mark.parametrize("value", [[], [[]]])
def test_what_is_no_input(client: OpenAI, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="embedder", input=value)
    assert raised.value.param == "input"


def test_an_empty_text_is_a_text(client: OpenAI, expected: Any) -> None:
    answer = client.embeddings.create(model="embedder", input=["", TEXTS[0]])
    same(vectors(answer), [expected["embed_empty"], expected["embed"][0]])


def test_64_requests_at_once(url: str, key: str, expected: Any) -> None:
    async def ask() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            requests = [
                client.embeddings.create(model="embedder", input=TEXTS[place % len(TEXTS)])
                for place in range(64)
            ]
            return [vectors(answer)[0] for answer in await asyncio.gather(*requests)]

    same(asyncio.run(ask()), [expected["embed"][place % len(TEXTS)] for place in range(64)])


def test_it_waits_as_long_as_a_busy_server_says(
    busy: str,
    key: str,
    expected: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = []
    slept: list[float] = []
    sleep = openai._base_client.time.sleep
    monkeypatch.setattr(
        openai._base_client.time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds))
    )
    http = openai.DefaultHttpxClient(event_hooks={"response": [answers.append]})
    # As many texts as fit only while few others wait.
    texts = TEXTS * 300
    client = OpenAI(base_url=f"{busy}/v1", api_key=key, http_client=http, max_retries=0)
    with pytest.raises(openai.RateLimitError):
        client.embeddings.create(model="embedder", input=texts)
    answer = client.with_options(max_retries=5).embeddings.create(model="embedder", input=texts)
    same(vectors(answer), expected["embed"] * 300)
    statuses = [answer.status_code for answer in answers]
    assert statuses[:2] == [429, 429]
    assert statuses[2:] == [429] * (len(statuses) - 3) + [200]
    told = [int(one.headers["retry-after-ms"]) / 1000 for one in answers[1:-1]]
    assert slept == told
