"""huggingface_hub's InferenceClient: every task, at the address of a model."""

from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, TextGenerationError

from compare import same
from inputs import CANDIDATES, DOCUMENTS, MASKED, MASKED_TWICE, QUERY, QUESTION, TEXTS


@pytest.fixture
def client(url: str, key: str) -> Callable[[str], InferenceClient]:
    """A factory: the name of a model to a client of it."""
    return lambda name: InferenceClient(f"{url}/models/{name}", token=key)


def dicts(answer: Any) -> Any:
    """Return dataclasses as dictionaries, without the fields that the server did not give."""
    if isinstance(answer, list):
        return [dicts(one) for one in answer]
    return {name: value for name, value in answer.items() if value is not None}


def test_feature_extraction(client: Any, expected: Any) -> None:
    embedder = client("embedder")
    same(embedder.feature_extraction(TEXTS).tolist(), expected["embed"])
    same(embedder.feature_extraction(TEXTS[1]).tolist(), expected["embed"][1:2])
    raw = embedder.feature_extraction(TEXTS, normalize=False, truncate=True)
    same(raw.tolist(), expected["embed_raw"])
    prompted = embedder.feature_extraction(TEXTS, prompt_name="query")
    same(prompted.tolist(), expected["embed_query"])


def test_sentence_similarity(client: Any, expected: Any) -> None:
    cosines = client("embedder").sentence_similarity(QUERY, other_sentences=DOCUMENTS)
    same(cosines, expected["cosines"])


def test_text_classification(client: Any, expected: Any) -> None:
    sentiment = client("sentiment")
    for text, labels in zip(TEXTS, expected["sentiment"], strict=True):
        same(dicts(sentiment.text_classification(text)), labels)
    two = sentiment.text_classification(TEXTS[0], top_k=2, function_to_apply="sigmoid")
    same(dicts(two), expected["sentiment_sigmoid_2"])


def test_zero_shot_classification(client: Any, expected: Any) -> None:
    for multi, name in ((False, "zero_shot"), (True, "zero_shot_multi")):
        answer = client("nli").zero_shot_classification(TEXTS[0], CANDIDATES, multi_label=multi)
        same([one.label for one in answer], expected[name]["labels"])
        same([one.score for one in answer], expected[name]["scores"])


def test_token_classification(client: Any, expected: Any) -> None:
    tagger = client("tagger")
    same(dicts(tagger.token_classification(TEXTS[1])), expected["tags"])
    simple = tagger.token_classification(TEXTS[1], aggregation_strategy="simple")
    same(dicts(simple), expected["tags"])
    words = dicts(tagger.token_classification(TEXTS[1], aggregation_strategy="none"))
    same(words, expected["tags_none"])


def test_fill_mask(client: Any, expected: Any) -> None:
    filler = client("filler")
    same(dicts(filler.fill_mask(MASKED)), expected["filled"])
    some = filler.fill_mask(MASKED, targets=["oxygen", "sugar"], top_k=2)
    same(dicts(some), expected["filled_targets"])
    # The client has no type for several masks, and gives the lists as they came.
    same(dicts(filler.fill_mask(MASKED_TWICE, top_k=3)), expected["filled_twice"])


def test_question_answering(client: Any, expected: Any) -> None:
    reader = client("reader")
    same(dicts(reader.question_answering(**QUESTION)), expected["answer"])
    same(dicts(reader.question_answering(**QUESTION, top_k=3)), expected["answers"])


def test_text_generation(client: Any, expected: Any) -> None:
    writer = client("writer")
    for options, name in (({"do_sample": False}, "written"), ({"seed": 5}, "written_seed_5")):
        text = writer.text_generation(TEXTS[0], max_new_tokens=6, **options)
        assert text == expected[name]["generated_text"]
    with pytest.raises(TextGenerationError, match="`stop` is no parameter"):
        writer.text_generation(TEXTS[0], max_new_tokens=6, stop=["."])
    with pytest.raises(TextGenerationError, match="`stream`"):
        list(writer.text_generation(TEXTS[0], max_new_tokens=6, stream=True))


def test_health_and_info(url: str, key: str) -> None:
    # The client has these for the hub's own kind of endpoint alone.
    endpoint = InferenceClient(f"{url}/models/embedder", provider="hf-inference", token=key)
    assert endpoint.health_check()
    info = endpoint.get_endpoint_info()
    assert info["served_model_name"] == "embedder"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 128


def test_errors(client: Any, url: str) -> None:
    with pytest.raises(HfHubHTTPError, match="cannot embed texts"):
        client("sentiment").sentence_similarity(QUERY, other_sentences=DOCUMENTS)
    with pytest.raises(HfHubHTTPError, match="no model 'nothing'"):
        client("nothing").fill_mask(MASKED)
    with pytest.raises(HfHubHTTPError, match="401"):
        InferenceClient(f"{url}/models/filler", token="wrong").fill_mask(MASKED)
