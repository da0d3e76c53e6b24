"""text-classification, compared with transformers' pipeline, and its errors."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError
from bertrt.heads.request import SampleOutputs
from bertrt.heads.text_classification import TextClassification
from bertrt.tokenizer import Encoding
from bertrt.tokens import pad

Agree = Callable[[Any, Any], None]
NAME = "BertForSequenceClassification"
TEXT = "this movie is about plants"
PAIR = {"text": "the cat sat", "text_pair": "on the mat"}


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def pipe(pipeline_of: Callable[..., Any]) -> Any:
    return pipeline_of("text-classification", NAME)


def test_every_text(rt: Any, pipe: Any, agree: Agree, texts: list[str]) -> None:
    expected = pipe(texts, truncation=True, top_k=None)
    agree(rt(texts, truncation=True, top_k=None), expected)
    agree([rt(text, truncation=True, top_k=None) for text in texts], expected)


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}], ids=str)
def test_one_text_or_a_list(rt: Any, pipe: Any, agree: Agree, options: dict[str, Any]) -> None:
    for text in (TEXT, "", [TEXT], [TEXT, "a"]):
        agree(rt(text, **options), pipe(text, **options))


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_k": None}], ids=str)
def test_pairs(rt: Any, pipe: Any, agree: Agree, options: dict[str, Any]) -> None:
    agree(rt(PAIR, **options), pipe(PAIR, **options))
    agree(rt([PAIR, {"text": TEXT}], **options), pipe([PAIR, {"text": TEXT}], **options))
    agree(rt({"text": TEXT}, **options), pipe({"text": TEXT}, **options))
    expected = pipe([PAIR], **options)
    agree(rt([("the cat sat", "on the mat")], **options), expected)


def test_the_answer_to_a_pair_is_in_a_list_unless_it_is_a_dict(rt: Any, agree: Agree) -> None:
    alone = rt(PAIR)
    assert isinstance(alone, dict)
    agree(rt("the cat sat", "on the mat"), [alone])
    agree(rt(("the cat sat", "on the mat")), [alone])
    agree(rt("the cat sat", "on the mat", top_k=1), rt(PAIR, top_k=1))
    assert alone != rt({"text": "the cat sat on the mat"})


@pytest.mark.parametrize("top_k", [{}, {"top_k": None}], ids=str)
@pytest.mark.parametrize("function", ["sigmoid", "softmax", "none", "Softmax", None])
def test_function_to_apply(
    rt: Any, pipe: Any, agree: Agree, function: str | None, top_k: dict[str, Any]
) -> None:
    agree(
        rt(TEXT, function_to_apply=function, **top_k),
        pipe(TEXT, function_to_apply=function, **top_k),
    )


def test_the_default_function_by_name(rt: Any, agree: Agree) -> None:
    agree(rt(TEXT, function_to_apply="default"), rt(TEXT))


def test_truncation(rt: Any, pipe: Any, agree: Agree) -> None:
    text, pair = "the cat sat " * 30, "on the mat " * 16
    for options in (
        {"truncation": True},
        {"truncation": True, "max_length": 9},
        {"truncation": "longest_first", "max_length": 31},
        {"truncation": "only_first"},
    ):
        agree(rt(text, **options), pipe(text, **options))
    both = {"text": text, "text_pair": pair}
    for options in ({"truncation": True}, {"truncation": "only_first", "max_length": 63}):
        agree(rt(both, **options), pipe(both, **options))


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "regression"},
        {"num_labels": 4, "problem_type": "multi_label_classification"},
        {"num_labels": 5, "problem_type": "single_label_classification"},
        {"num_labels": 2},
        {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [{}, {"top_k": None}], ids=str)
def test_the_config_chooses_the_default_function(
    rt: Any,
    pipeline_of: Callable[..., Any],
    make_checkpoint: Callable[..., Path],
    agree: Agree,
    config: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Only the config differs from that of the exported model, so PyTorch runs instead of ORT."""
    pipe = pipeline_of("text-classification", NAME, **config)
    written = (make_checkpoint(NAME, **config) / "config.json").read_text(encoding="utf-8")
    head = TextClassification(rt.tokenizer, ModelConfig.from_json(json.loads(written)))
    inputs, _ = head.read_inputs([TEXT, "a", "the cat sat"])
    answers = head.answer(inputs, TorchRunner(pipe.model), head.parse_options(options))
    agree(answers, pipe([TEXT, "a", "the cat sat"], **options))


class TorchRunner:
    """A `GraphRunner` of an eager PyTorch model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def run_encodings(
        self, encodings: Sequence[Encoding], **_: Any
    ) -> Iterator[tuple[int, SampleOutputs]]:
        for i, encoding in enumerate(encodings):
            yield i, {"logits": self.run(**pad([encoding], 0))["logits"][0]}

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        with torch.no_grad():
            outputs = self._model(**{name: torch.tensor(a) for name, a in arrays.items()})
        return {"logits": outputs.logits.numpy()}


def test_equal_scores_keep_the_order_of_the_labels(rt: Any) -> None:
    class EqualLogits(TorchRunner):
        def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
            return {"logits": np.zeros((len(arrays["input_ids"]), 3), np.float32)}

    head = TextClassification(rt.tokenizer, rt._artifact.config)
    (answer,) = head.answer(
        head.read_inputs(TEXT)[0], EqualLogits(None), head.parse_options({"top_k": None})
    )
    assert [label["label"] for label in answer] == ["contradiction", "neutral", "entailment"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"top_k": 0}, "top_k is 0"),
        (TEXT, {"top_k": "2"}, "top_k is '2'"),
        (TEXT, {"top_k": True}, "top_k is True"),
        (TEXT, {"function_to_apply": "relu"}, "'relu': use one of default, sigmoid, softmax, none"),
        (TEXT, {"function_to_apply": 3}, "function_to_apply is 3"),
        (TEXT, {"functions_to_apply": "none"}, "did you mean function_to_apply"),
        (TEXT, {"return_all_scores": True}, "no option 'return_all_scores'"),
        ("a " * 70, {}, "72 tokens and the limit is 64"),
        ("a " * 70, {"truncation": "only_second"}, "cannot be truncated to 64"),
        (TEXT, {"truncation": True, "max_length": 2}, "max_length is 2"),
        ([], {}, "list of texts is empty"),
        ([["the cat", "sat"]], {}, "an input is list"),
        ({"text": "a", "pair": "b"}, {}, "an input is dict"),
        ({"text": ["a", "b"]}, {}, r"text is \['a', 'b'\]: give a string"),
        ({"text": "a", "text_pair": 5}, {}, "text_pair is 5"),
        (("a", "b", "c"), {}, "an input is tuple"),
        ("\udcff", {}, "lone surrogate"),
    ],
)
def test_refuses(rt: Any, text: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(text, **options)
