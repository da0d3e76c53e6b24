"""Every encoder, head and target: the answers are those of transformers' own class."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import transformers

import bertrt
from bertrt.artifact.targets import choose_target
from bertrt.export.parity.harness import open_session

Exported = Callable[..., SimpleNamespace]
Arrays = dict[str, np.ndarray]

HEADS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
# The heads of each encoder that differ from BERT's, and with ELSEWHERE every head once.
ON_CPU = [
    ("roberta", "Model"),
    *(("roberta", f"For{head}") for head in ("SequenceClassification", "TokenClassification")),
    ("xlm-roberta", "ForMaskedLM"),
    *(("distilbert", f"For{head}") for head in ("MaskedLM", "SequenceClassification")),
    *(("electra", f"For{head}") for head in ("MaskedLM", "SequenceClassification")),
    ("electra", "ForMultipleChoice"),
    *(("albert", head) for head in ("Model", "ForMaskedLM", "ForSequenceClassification")),
]
ANY = {"device": "any"}
OLD = {"device": "any", "opset": 17}
ORT = {"device": "cuda", "engine": "ort"}
TRITON = {"device": "cuda", "engine": "triton"}
# Each structure on each target, with heads that are not only a classifier.
ELSEWHERE: list[tuple[str, str, dict[str, Any]]] = [
    ("roberta", "Model", OLD),
    ("roberta", "ForMaskedLM", {**ORT, "dtype": "float32"}),
    ("roberta", "ForQuestionAnswering", {**TRITON, "dtype": "float16"}),
    ("xlm-roberta", "ForMaskedLM", {**TRITON, "dtype": "bfloat16"}),
    ("camembert", "ForMultipleChoice", {**TRITON, "dtype": "float32"}),
    ("distilbert", "ForSequenceClassification", {**ORT, "dtype": "float16"}),
    ("distilbert", "ForSequenceClassification", {**TRITON, "dtype": "float32"}),
    ("electra", "ForMaskedLM", {**ANY, "opset": 20}),
    ("electra", "ForSequenceClassification", {**ORT, "dtype": "float16"}),
    ("electra", "ForMultipleChoice", {**TRITON, "dtype": "float16"}),
    ("albert", "ForMaskedLM", {**ORT, "dtype": "float16"}),
    ("albert", "Model", {**TRITON, "dtype": "bfloat16"}),
]


@pytest.mark.parametrize(("model_type", "head"), ON_CPU)
def test_on_cpu(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
    model_type: str,
    head: str,
) -> None:
    """Rows of every length give transformers' answers in one batch, and alone."""
    made = exported(model_type, head)
    assert made.manifest.task == HEADS[head]
    assert made.manifest.architecture.endswith(head)
    arrays = batch(made.checkpoint)
    mask = arrays["attention_mask"]
    with bertrt.load(made.folder, threads=1) as rt:
        together = rt.run(**arrays)
        check_equal(together, theirs(made.checkpoint, **arrays), mask)
        for row in (0, 1, 6, 24, 39):
            length = row + 1
            alone = rt.run(input_ids=arrays["input_ids"][row : row + 1, ..., :length])
            for name, value in alone.items():
                same = together[name][row : row + 1]
                same = same if same.shape == value.shape else same[:, :length]
                np.testing.assert_allclose(value, same, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model_type", "head", "options"), ELSEWHERE, ids=str)
def test_elsewhere(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
    model_type: str,
    head: str,
    options: dict[str, Any],
) -> None:
    """ONNX Runtime on the CPU, or the numpy references of the kernels, give the answers."""
    made = exported(model_type, head, tuple(options.items()))
    arrays = batch(made.checkpoint)
    target, dtype = choose_target(**made.manifest.target)
    session = open_session(made.folder / "model.onnx", target.engine, target.optimization_level)
    types = np.zeros_like(arrays["input_ids"])
    ours = session.run({**arrays, "token_type_ids": types})
    session.close()
    # Answers are about 5 after two layers: float16 rounds them to 11 bits, bfloat16 to 8.
    tolerance = {"float16": 0.04, "bfloat16": 0.2}.get(dtype, 1e-4)
    expected = theirs(made.checkpoint, **arrays)
    check_equal(ours, expected, arrays["attention_mask"], tolerance=tolerance)


TEXTS = ["the cat sat on the mat", "a dog", "we ran to the big city and you sat", "what <pad> is"]


@pytest.mark.parametrize("model_type", ["roberta", "distilbert", "electra", "albert"])
def test_texts(exported: Exported, model_type: str) -> None:
    """Texts get the answers of transformers' pipeline, one at a time and together."""
    made = exported(model_type, "ForSequenceClassification")
    pipe = transformers.pipeline("text-classification", str(made.checkpoint), top_k=None)
    expected = pipe(TEXTS)
    with bertrt.load(made.folder, threads=1) as rt:
        for answers in (rt(TEXTS, top_k=None), [rt(text, top_k=None) for text in TEXTS]):
            for ours, pipes in zip(answers, expected, strict=True):
                assert [one["label"] for one in ours] == [one["label"] for one in pipes]
                scores = [[one["score"] for one in answer] for answer in (ours, pipes)]
                np.testing.assert_allclose(*scores, atol=1e-5)
    assert len({answer[0]["score"] for answer in expected}) == len(TEXTS)


def test_the_hubs_layout(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
) -> None:
    """The graph is where other programs look for it, beside the encoder's own config."""
    made = exported("roberta", "ForTokenClassification", (("layout", "hub"),))
    config = transformers.AutoConfig.from_pretrained(made.folder)
    own = transformers.AutoConfig.from_pretrained(made.checkpoint)
    assert config.architectures == ["RobertaForTokenClassification"]
    assert config.max_position_embeddings == own.max_position_embeddings
    arrays = batch(made.checkpoint)
    graph = onnxruntime.InferenceSession(Path(made.folder, "onnx/model.onnx"))
    assert [one.name for one in graph.get_inputs()] == ["input_ids", "attention_mask"]
    # What the tokenizer gives has no token types.
    inputs = transformers.AutoTokenizer.from_pretrained(made.folder)(
        ["the cat", "a big dog sat on the mat"], padding=True, return_tensors="np"
    )
    (logits,) = graph.run(None, dict(inputs))
    words = inputs["attention_mask"] != 0
    np.testing.assert_allclose(
        logits[words], theirs(made.checkpoint, **inputs)["logits"][words], rtol=0, atol=1e-4
    )
    with bertrt.load(made.folder, threads=1) as rt:
        expected = theirs(made.checkpoint, **arrays)
        check_equal(rt.run(**arrays), expected, arrays["attention_mask"])


def test_a_head_that_transformers_lacks(encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = encoder("distilbert", "Model")
    with pytest.raises(bertrt.BertrtError, match="distilbert has no head for text-generation"):
        bertrt.export.export(folder, tmp_path / "out", task="text-generation")
    assert not (tmp_path / "out").exists()
