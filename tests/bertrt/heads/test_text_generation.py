"""text-generation: greedy texts equal those of transformers' pipeline; sampling is repeatable."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.errors import InputError

Agree = Callable[[Any, Any], None]
GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 8}


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertLMHeadModel")


@pytest.fixture(scope="module")
def pipe(pipeline_of: Callable[..., Any]) -> Any:
    return pipeline_of("text-generation", "BertLMHeadModel")


def reference(pipe: Any, prompt: str, **options: Any) -> Any:
    """Return the pipeline's answer; transformers 4 has the same tokens but decodes differently."""
    import transformers

    if int(transformers.__version__.split(".")[0]) >= 5:
        return pipe(prompt, **options)
    full = options.pop("return_full_text", True)
    skip = options.pop("skip_special_tokens", True)
    arguments = dict(options.get("tokenizer_encode_kwargs", {}))
    arguments["add_special_tokens"] = options.get("add_special_tokens", True)
    length = len(pipe.tokenizer(prompt, **arguments).input_ids)
    if "max_length" in options:
        options["max_new_tokens"] = options.pop("max_length") - length
    (answer,) = pipe(prompt, return_tensors=True, **options)
    new = answer["generated_token_ids"][length:]
    text = pipe.tokenizer.decode(new, skip_special_tokens=skip)
    return [{"generated_text": prompt * full + text}]


@pytest.fixture(scope="module")
def prompts(rt: Any, texts: list[str]) -> list[str]:
    """Return the texts that leave room for new tokens."""
    return [text for text in texts if rt.tokenize(text, truncation=True)["input_ids"].size < 50]


def test_every_prompt(rt: Any, pipe: Any, agree: Agree, prompts: list[str]) -> None:
    expected = [reference(pipe, prompt, **GREEDY) for prompt in prompts]
    agree(rt(prompts, **GREEDY), expected)
    agree([rt(prompt, **GREEDY) for prompt in prompts], expected)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 1},
        {"max_new_tokens": 61},
        {"max_length": 5},
        {"max_length": 64},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8},
        {"min_new_tokens": 6, "eos_token_id": [47, 116, 199]},
        {"eos_token_id": 199},
        {"return_full_text": False},
        {"add_special_tokens": False},
        {"skip_special_tokens": False},
        {"tokenizer_encode_kwargs": {"truncation": True, "max_length": 3}},
    ],
    ids=str,
)
def test_options(rt: Any, pipe: Any, agree: Agree, options: dict[str, Any]) -> None:
    options = {**({} if "max_length" in options else GREEDY), "do_sample": False, **options}
    prompts = ["the cat", "a dog", "new york"]
    expected = [reference(pipe, prompt, **options) for prompt in prompts]
    agree(rt(prompts, **options), expected)
    agree(rt(prompts[0], **options), expected[0])


def test_a_bidirectional_model_runs_all_tokens_at_each_step(
    load_artifact: Callable[..., Any], pipeline_of: Callable[..., Any], agree: Agree
) -> None:
    config = {"is_decoder": False}
    rt = load_artifact("BertLMHeadModel", **config)
    pipe = pipeline_of("text-generation", "BertLMHeadModel", **config)
    prompts = ["the cat sat on", "", "who is the president of the united states", "the dog sat in"]
    expected = [reference(pipe, prompt, **GREEDY, use_cache=False) for prompt in prompts]
    agree(rt(prompts, **GREEDY), expected)


def test_many_prompts_keep_their_order(rt: Any, agree: Agree) -> None:
    words = "the cat sat on a mat by the river in new york".split()
    prompts = [" ".join(words[: n % 11 + 1]) for n in range(45)]
    agree(rt(prompts, **GREEDY), [rt(prompt, **GREEDY) for prompt in prompts])


def test_by_default_it_stops_where_positions_end(rt: Any, agree: Agree) -> None:
    options = {"do_sample": False, "eos_token_id": []}
    agree(rt("the cat", **options), rt("the cat", max_new_tokens=61, **options))
    assert rt.tokenize("a " * 62)["input_ids"].shape == (1, 64)
    agree(rt("a " * 62, **options), rt("a " * 62, max_new_tokens=1, **options))


def test_a_seed_gives_the_same_texts_alone_and_in_a_list(rt: Any, agree: Agree) -> None:
    options = {"seed": 5, "max_new_tokens": 6, "num_return_sequences": 3}
    prompts = ["the cat", "a dog", "the cat sat on the mat"]
    answers = rt(prompts, **options)
    assert [len(answer) for answer in answers] == [3, 3, 3]
    agree(answers, [rt(prompt, **options) for prompt in prompts])
    assert len({answer["generated_text"] for answer in answers[0]}) == 3
    assert rt("the cat", **{**options, "seed": 6}) != answers[0]
    json.dumps(answers)


def test_without_a_seed_texts_differ(rt: Any) -> None:
    assert rt("the cat", max_new_tokens=20) != rt("the cat", max_new_tokens=20)


def test_samples_follow_the_scores(rt: Any) -> None:
    """Sample one token many times, and compare frequencies with the expected probabilities."""
    options = {"temperature": 0.8, "top_k": 4, "top_p": 0.9, "max_new_tokens": 1, "seed": 0}
    count = 2000
    answers = rt("the cat", num_return_sequences=count, return_full_text=False, **options)
    counts = Counter(answer["generated_text"] for answer in answers)
    best = rt("the cat", next_tokens=4)
    scores = np.array([token["score"] for token in best]) ** (1 / 0.8)
    scores /= scores.sum()
    kept = max(1, int((np.cumsum(scores) - scores < 0.9).sum()))
    scores = scores[:kept] / scores[:kept].sum()
    assert set(counts) == {token["token_str"] for token in best[:kept]}
    for token, expected in zip(best, scores, strict=False):
        frequency = counts[token["token_str"]] / count
        assert frequency == pytest.approx(expected, abs=4 * np.sqrt(0.25 / count))


def test_a_tiny_temperature_and_top_k_1_are_greedy(rt: Any, agree: Agree) -> None:
    expected = rt("the cat sat", **GREEDY)
    agree(rt("the cat sat", max_new_tokens=8, temperature=1e-6), expected)
    agree(rt("the cat sat", max_new_tokens=8, top_k=1), expected)
    agree(rt("the cat sat", max_new_tokens=8, top_k=0, top_p=0), expected)


def test_next_tokens(rt: Any, pipe: Any, agree: Agree) -> None:
    import torch

    prompts = ["the cat", "who is the president of the united states", ""]
    expected = []
    for prompt in prompts:
        with torch.no_grad():
            logits = pipe.model(**pipe.tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        scores, tokens = logits.softmax(dim=-1).topk(5)
        expected.append(
            [
                {"score": score, "token": token, "token_str": pipe.tokenizer.decode([token])}
                for score, token in zip(scores.tolist(), tokens.tolist(), strict=True)
            ]
        )
    agree(rt(prompts, next_tokens=5), expected)
    agree(rt(prompts[0], next_tokens=5), expected[0])
    assert len(rt("the cat", next_tokens=10**6)) == len(rt.tokenizer.get_vocab())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rt: rt("a", "b"), "takes one text, but got a pair"),
        (lambda rt: rt([{"role": "user", "content": "a"}]), "an input is dict"),
        (lambda rt: rt("", add_special_tokens=False), "the prompt '' has no tokens"),
        (lambda rt: rt("a " * 70), "has 72 tokens and the limit is 64"),
        (lambda rt: rt("the cat", max_new_tokens=62), "prompt of 4 tokens this model has room for"),
        (lambda rt: rt("the cat", max_new_tokens=0), "max_new_tokens is 0"),
        (lambda rt: rt("the cat", max_new_tokens="9"), "max_new_tokens is '9'"),
        (lambda rt: rt("the cat", max_length=4), "max_length is 4, which leaves no room"),
        (lambda rt: rt("the cat", max_length=65), "reads at most 64"),
        (lambda rt: rt("a", max_new_tokens=2, min_new_tokens=3), "min_new_tokens is 3"),
        (lambda rt: rt("a", num_return_sequences=2, do_sample=False), "pass do_sample=True"),
        (lambda rt: rt("a", num_return_sequences=0), "num_return_sequences is 0"),
        (lambda rt: rt("a", temperature=0.0), r"temperature is 0\.0"),
        (lambda rt: rt("a", temperature=float("nan")), "temperature is nan"),
        (lambda rt: rt("a", temperature=float("inf")), "temperature is inf"),
        (lambda rt: rt("a", top_p=1.5), r"top_p is 1\.5: give a number of at least 0 and at most"),
        (lambda rt: rt("a", top_k=-1), "top_k is -1"),
        (lambda rt: rt("a", top_k=None), "top_k is None"),
        (lambda rt: rt("a", repetition_penalty=0), "repetition_penalty is 0"),
        (lambda rt: rt("a", do_sample=1), "do_sample is 1: give true or false"),
        (lambda rt: rt("a", seed=-1), "seed is -1"),
        (lambda rt: rt("a", eos_token_id="[SEP]"), r"eos_token_id is '\[SEP\]'"),
        (lambda rt: rt("a", eos_token_id=[3, None]), "eos_token_id is None"),
        (lambda rt: rt("a", next_tokens=0), "next_tokens is 0"),
        (lambda rt: rt("a", num_beams=4), "no option 'num_beams'"),
        (lambda rt: rt("a", tokenizer_encode_kwargs={"x": 1}), "tokenizer_encode_kwargs is"),
    ],
)
def test_refuses(rt: Any, call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(rt)
    assert "\n" not in str(caught.value)
