"""The runtime: its inputs, the order of its answers, and the errors for wrong inputs."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import InputError
from bertrt.export.heads import HEADS as EXPORTED

HEADS = [head.class_name for head in EXPORTED]


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertForMaskedLM")


def test_a_list_keeps_its_order(rt: Any) -> None:
    texts = [f"{'the cat ' * n}[MASK] sat" for n in (9, 1, 20, 3, 14, 2)]
    answers = rt(texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        for got, alone in zip(answer, rt(text), strict=True):
            assert got["token"] == alone["token"]
            assert got["score"] == pytest.approx(alone["score"], abs=1e-5)


def test_an_iterator_gives_an_iterator(rt: Any) -> None:
    numbers_read = []

    def source() -> Any:
        for n in range(3000):
            numbers_read.append(n)
            yield "the [MASK] sat"

    answers = rt(source(), top_k=1)
    assert numbers_read == []
    first = next(answers)
    assert len(numbers_read) <= 1024
    assert first == rt("the [MASK] sat", top_k=1)
    answers.close()


def test_answers_are_json(load_artifact: Callable[..., Any]) -> None:
    json.dumps(load_artifact("BertForMaskedLM")("the [MASK] sat"))
    json.dumps(load_artifact("BertForTokenClassification")("John lives in Paris"))
    json.dumps(load_artifact("BertForMaskedLM").info)


def test_tokenize_and_run(rt: Any) -> None:
    arrays = rt.tokenize("the cat", "sat on the mat")
    assert arrays["input_ids"].shape[0] == 1
    assert arrays["token_type_ids"].max() == 1
    logits = rt.run(**arrays)["logits"]
    assert logits.shape[:2] == arrays["input_ids"].shape
    pairs = rt.tokenize(["the cat", "a"], ["sat on the mat", "b"])
    np.testing.assert_allclose(
        rt.run(**pairs)["logits"][0, : logits.shape[1]], logits[0], atol=1e-4
    )


@pytest.mark.parametrize("device", ["cpu", "any"])
@pytest.mark.parametrize("class_name", HEADS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 33), (2, 64), "ragged"], ids=str)
def test_run_equals_eager_pytorch(
    load_artifact: Callable[..., Any],
    make_checkpoint: Callable[..., Path],
    class_name: str,
    device: str,
    shape: Any,
) -> None:
    import torch
    import transformers

    folder = make_checkpoint(class_name)
    model = getattr(transformers, class_name).from_pretrained(folder, attn_implementation="eager")
    random = np.random.default_rng(7)
    batch, sequence = (4, 29) if shape == "ragged" else shape
    leading = (batch, 3) if class_name == "BertForMultipleChoice" else (batch,)
    arrays = {
        "input_ids": random.integers(5, 200, (*leading, sequence)),
        "attention_mask": np.ones((*leading, sequence), np.int64),
        "token_type_ids": random.integers(0, 2, (*leading, sequence)),
    }
    if shape == "ragged":
        for row, length in enumerate((29, 1, 13, 28)):
            arrays["attention_mask"][row, ..., length:] = 0
    with torch.no_grad():
        expected = model.eval()(**{name: torch.tensor(a) for name, a in arrays.items()})
    answer = load_artifact(class_name, device=device).run(**arrays)
    outputs = [name for name in answer if not name.startswith("present.")]
    assert tuple(outputs) == next(
        head.outputs for head in EXPORTED if head.class_name == class_name
    )
    for name in outputs:
        value = answer[name]
        reference = expected[name].numpy()
        if reference.shape[: len(leading) + 1] == arrays["attention_mask"].shape:
            tokens = arrays["attention_mask"] == 1
            value, reference = value[tokens], reference[tokens]
        np.testing.assert_allclose(value, reference, atol=1e-4, rtol=0)


def test_chosen_outputs_and_first_token_only(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    arrays = rt.tokenize(["the cat sat", "a dog"])
    full = rt.run(**arrays)
    assert list(full) == ["last_hidden_state", "pooler_output"]
    chosen = rt.run(outputs=["sentence_embedding", "pooler_output"], **arrays)
    assert list(chosen) == ["sentence_embedding", "pooler_output"]
    np.testing.assert_array_equal(chosen["pooler_output"], full["pooler_output"])
    np.testing.assert_allclose(np.linalg.norm(chosen["sentence_embedding"], axis=1), 1, atol=1e-6)
    first = rt.run(first_token_only=True, **arrays)
    for name, value in full.items():
        expected = value[:, :1] if name == "last_hidden_state" else value
        np.testing.assert_allclose(first[name], expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="sentence_embedding is of all tokens"):
        rt.run(first_token_only=True, outputs=["sentence_embedding"], **arrays)


def test_masked_only(rt: Any) -> None:
    arrays = rt.tokenize(["the [MASK] sat", "[MASK] [MASK]", "a cat"])
    full = rt.run(**arrays)["logits"]
    logits = rt.run(masked_only=True, **arrays)["logits"]
    masks = arrays["input_ids"] == rt.tokenizer.mask_id
    assert logits.shape == (3, 1, full.shape[-1])
    np.testing.assert_allclose(logits[:, 0], full[masks], rtol=0, atol=1e-5)


def test_an_any_graph_has_no_optional_inputs(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM", device="any")
    with pytest.raises(InputError, match="unknown input 'masked_only'"):
        rt.run(input_ids=[[2, 3]], masked_only=True)


@pytest.mark.parametrize("class_name", HEADS)
def test_warmup_and_info(load_artifact: Callable[..., Any], class_name: str) -> None:
    rt = load_artifact(class_name)
    rt.warmup()
    info = rt.info
    assert info["architecture"] == class_name
    assert info["provider"] == "CPUExecutionProvider"
    assert info["threads"] >= 1
    json.dumps(info)


def test_no_network(make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with bertrt.load(make_artifact("BertForMaskedLM")) as rt:
        rt("the [MASK] sat")


def test_a_path_with_spaces_and_other_letters(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    import shutil

    path = tmp_path / "un modèle à moi 中"
    shutil.copytree(make_artifact("BertForMaskedLM"), path)
    with bertrt.load(str(path)) as rt:
        assert rt("the [MASK] sat")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rt: rt(), "got 0 inputs"),
        (lambda rt: rt([]), "list of texts is empty"),
        (lambda rt: rt(None), "an input is NoneType"),
        (lambda rt: rt(3), "an input is int"),
        (lambda rt: rt(["the [MASK]", 3]), "an input is int"),
        (lambda rt: rt(b"the [MASK]"), "an input is bytes"),
        (lambda rt: rt("a", "b", "c"), "got 3 inputs"),
        (lambda rt: rt({"txt": "the [MASK]"}), "an input is dict"),
        (lambda rt: rt("the cat"), r"no \[MASK\]: 'the cat'"),
        (lambda rt: rt(""), r"no \[MASK\]"),
        (lambda rt: rt("the [MASK]", topk=3), "no option 'topk': did you mean top_k"),
        (lambda rt: rt("the [MASK]", top_k=0), "top_k is 0"),
        (lambda rt: rt("the [MASK]", top_k="5"), "top_k is '5'"),
        (lambda rt: rt("the [MASK] " + "a " * 90), "limit is 64"),
        (lambda rt: rt("\ud800 [MASK]"), "lone surrogate"),
        (lambda rt: rt.tokenize("a", padding=True), "no option 'padding'"),
        (lambda rt: rt.tokenize([]), "0 texts"),
        (lambda rt: rt.tokenize(["a", "b"], ["c"]), "2 texts and 1 pairs"),
        (lambda rt: rt.run(), "input_ids is missing"),
        (lambda rt: rt.run(input_ids=[[2]], outputs=["logit"]), "unknown output 'logit'"),
        (lambda rt: rt.run(input_ids=[[2]], outputs="logits"), "outputs is 'logits': give a list"),
        (lambda rt: rt.run(input_ids=[[2]], masked_only=1), "masked_only is 1: give true or"),
        (lambda rt: rt.run(input_ids=[[2]], first_token_only=True), "unknown input 'first_token"),
        (lambda rt: rt.run(input_ids=[[10**9]]), "this model's are"),
        (lambda rt: rt.embed("the cat"), "feature-extraction"),
        (lambda rt: rt.warmup("1x8"), "warm-up shape is '1'"),
        (lambda rt: rt.warmup([(1, 0)]), "holds no token"),
        (lambda rt: rt("the [MASK]", progress=1), "progress is 1"),
        (lambda rt: bertrt.Runtime(rt._artifact, allow_spinning=0), "allow_spinning is 0"),
        (lambda rt: bertrt.Runtime(rt._artifact, max_batch_tokens=0), "max_batch_tokens is 0"),
        (lambda rt: bertrt.load(None), "directory is None: give a path"),
        (lambda rt: bertrt.load(3), "directory is 3"),
    ],
)
def test_wrong_inputs_and_options_are_refused(
    rt: Any, call: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(rt)
    assert "\n" not in str(caught.value)
    assert rt("the [MASK] sat")  # the runtime still works


def test_an_iterator_of_words_is_refused(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForTokenClassification")
    assert len(list(rt(iter([["New", "York"], ["John"]]), is_split_into_words=True))) == 2
    with pytest.raises(InputError, match="each as a list of words"):
        list(rt(iter(["New", "York"]), is_split_into_words=True))


def test_another_task_is_refused(make_artifact: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="serves fill-mask, not 'question-answering'"):
        bertrt.load(make_artifact("BertForMaskedLM"), task="question-answering")


def test_long_texts_are_truncated_on_request(rt: Any) -> None:
    assert rt("the [MASK] " + "a " * 90, truncation=True)
    with pytest.raises(InputError):  # the mask token was cut off
        rt("a " * 90 + "[MASK]", truncation=True)


def test_repr_names_task_and_directory(make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM")
    with bertrt.load(path, threads=1) as rt:
        assert repr(rt) == f"<bertrt.Runtime fill-mask from {str(path)!r}>"
