"""LangChain's OpenAIEmbeddings: with texts, and with token ids of OpenAI's own vocabulary."""

import asyncio
from pathlib import Path
from typing import Any

import litellm
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from compare import same
from inputs import TEXTS


@pytest.fixture
def options(url: str, key: str) -> dict[str, Any]:
    return {"model": "embedder", "base_url": f"{url}/v1", "api_key": key, "max_retries": 0}


def test_vectors(options: Any, expected: Any) -> None:
    embedder = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    # LangChain sends blank documents as they are.
    texts, vectors = [*TEXTS, ""], [*expected["embed"], expected["embed_empty"]]
    thousand = (texts * 167)[:1000]
    same(embedder.embed_documents(thousand), (vectors * 167)[:1000])
    same(asyncio.run(embedder.aembed_documents(texts)), vectors)
    same(embedder.embed_query(TEXTS[1]), expected["embed"][1])
    short = OpenAIEmbeddings(**options, check_embedding_ctx_length=False, dimensions=64)
    same(short.embed_documents(TEXTS), expected["embed_64"])


@pytest.mark.filterwarnings("ignore:model not found")
def test_ids_of_another_vocabulary_are_refused(
    options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That vocabulary is a download of its own, and a file of litellm.
    file = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(file))
    embedder = OpenAIEmbeddings(**options)
    with pytest.raises(openai.BadRequestError, match="vocabulary") as raised:
        embedder.embed_documents(TEXTS)
    assert raised.value.param == "input"
    assert "check_embedding_ctx_length" in raised.value.message
