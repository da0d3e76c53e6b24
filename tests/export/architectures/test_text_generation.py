"""Decoders of other encoders: texts are those of transformers' model, run without a cache.

transformers' `generate` is no reference for RoBERTa: see docs/decisions/runtime.md.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers

import bertrt

Exported = Callable[..., SimpleNamespace]
Theirs = Callable[..., dict[str, np.ndarray]]
DECODERS = ["roberta", "xlm-roberta", "electra"]
PROMPTS = ["the cat", "a big dog sat on", "we ran", "what is [PAD] of <pad> the city", "you"]


@pytest.fixture(scope="module", params=DECODERS)
def made(exported: Exported, request: Any) -> SimpleNamespace:
    return exported(request.param, "ForCausalLM")


def greedy(theirs: Theirs, made: SimpleNamespace, ids: list[int], count: int) -> list[int]:
    """Continue ids by the model's most likely tokens; each step runs all tokens."""
    ids = list(ids)
    for _ in range(count):
        row = np.array([ids])
        logits = theirs(made.checkpoint, input_ids=row, attention_mask=np.ones_like(row))["logits"]
        ids.append(int(logits[0, -1].argmax()))
    return ids


def test_texts_are_the_models(theirs: Theirs, made: SimpleNamespace) -> None:
    """Padding tokens in a prompt, or generated, are not counted; texts end where positions do."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.checkpoint)
    prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    expected = [greedy(theirs, made, ids, 40 - len(ids)) for ids in prompts]
    texts = [tokenizer.decode(ids[len(p) :]) for ids, p in zip(expected, prompts, strict=True)]
    assert len(set(texts)) == len(texts)
    options = {"do_sample": False, "return_full_text": False, "skip_special_tokens": False}
    # Tokens are compared: those that end a text are left to the model.
    options |= {"eos_token_id": [], "max_length": 40}
    with bertrt.load(made.folder, threads=1) as rt:
        assert "past_key_values.0.key" in {spec.name for spec in made.manifest.graph.inputs}
        for answers in (rt(PROMPTS, **options), [rt(prompt, **options) for prompt in PROMPTS]):
            assert [answer[0]["generated_text"] for answer in answers] == texts


def test_the_cache(theirs: Theirs, made: SimpleNamespace) -> None:
    """Tokens after cached ones get the logits that they have without a cache."""
    random = np.random.default_rng(3)
    ids = random.integers(5, 60, (3, 40))
    expected = theirs(made.checkpoint, input_ids=ids, attention_mask=np.ones_like(ids))["logits"]
    with bertrt.load(made.folder, threads=1) as rt:
        for cut in (1, 7, 39):
            outputs = [spec.name for spec in made.manifest.graph.outputs]
            first = rt.run(outputs=outputs, input_ids=ids[:, :cut])
            past = {
                name.replace("present", "past_key_values"): value
                for name, value in first.items()
                if name.startswith("present.")
            }
            rest = rt.run(input_ids=ids[:, cut:], attention_mask=np.ones_like(ids), **past)
            got = np.concatenate([first["logits"], rest["logits"]], axis=1)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=1).max() > 1
