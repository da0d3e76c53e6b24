"""A graph that takes text gives the runtime's answers, in one session and without bertrt."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime_extensions import get_library_path

import bertrt
from bertrt.cli import main
from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.tokenizer.text_graph.attributes import tokenizer_attributes
from bertrt.export.tokenizer.text_graph.build import tokenizer_graph
from bertrt.export.tokenizer.text_graph.check import compare_tokens

PLAIN = [
    "John Smith works at Google in New York.",
    "",
    "What?! No -- really; (yes).",
    "中国人 in 北京",
    "running unable workings photosynthesis",
    "PARIS is the capital " + "of france " * 80,  # longer than the model's limit
]
PAIRS = ["Mary lives in London.", "a", "", "!", "the cat sat " * 30, "who is the president? " * 20]


def run(directory: Path, text: list[str], **inputs: Any) -> dict[str, np.ndarray]:
    """Run the graph as in the README."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(str(directory / "model_text.onnx"), options)
    names = [value.name for value in session.get_outputs()]
    arrays = {"text": np.array(text, object), **inputs}
    return dict(zip(names, session.run(names, arrays), strict=True))


@pytest.fixture(scope="module")
def directory(make_checkpoint: Callable[..., Path], tmp_path_factory: Any) -> Path:
    out: Path = tmp_path_factory.mktemp("text") / "out"
    export(make_checkpoint("BertModel"), out, with_tokenizer=True)
    return out


@pytest.mark.parametrize("pairs", [None, PAIRS])
def test_answers_equal_the_runtimes(directory: Path, pairs: list[str] | None) -> None:
    second = {} if pairs is None else {"text_pair": np.array(pairs, object)}
    ours = run(directory, PLAIN, **second)
    with bertrt.load(directory) as rt:
        arrays = rt.tokenize(PLAIN, pairs, truncation=True)
        for name, array in arrays.items():
            np.testing.assert_array_equal(ours[name], array)
            assert ours[name].dtype == np.int64
        theirs = rt.run(**arrays, outputs=["last_hidden_state", "sentence_embedding"])
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-5)


def test_a_text_has_the_same_answer_in_any_batch(directory: Path) -> None:
    together = run(directory, PLAIN)["sentence_embedding"]
    for text, vector in zip(PLAIN, together, strict=True):
        np.testing.assert_allclose(
            run(directory, [text])["sentence_embedding"][0], vector, atol=1e-5
        )


def test_texts_are_cut_where_the_model_says(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_checkpoint("BertModel"), folder)
    kinds = ("Transformer", "Pooling")
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"1_{kind}" if i else ""}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    export(folder, tmp_path / "out", task="feature-extraction", with_tokenizer=True)
    ours = run(tmp_path / "out", PLAIN)
    assert ours["input_ids"].shape[1] == 9
    with bertrt.load(tmp_path / "out") as rt:
        np.testing.assert_allclose(ours["sentence_embedding"], rt.embed(PLAIN), atol=1e-5)


def test_flags_work(directory: Path) -> None:
    whole = run(directory, PLAIN[:2])
    cut = run(directory, PLAIN[:2], first_token_only=np.array(True))
    np.testing.assert_allclose(
        cut["last_hidden_state"], whole["last_hidden_state"][:, :1], atol=1e-5
    )


def test_other_heads_on_a_cased_vocabulary(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint("BertForQuestionAnswering", cased=True)
    export(checkpoint, tmp_path / "out", with_tokenizer=True, device="any")
    ours = run(tmp_path / "out", ["Where is John?"], text_pair=np.array(["In Paris."], object))
    with bertrt.load(tmp_path / "out") as rt:
        theirs = rt.run(**rt.tokenize("Where is John?", "In Paris."))
    np.testing.assert_array_equal(ours["start_logits"].shape, theirs["start_logits"].shape)
    np.testing.assert_allclose(ours["start_logits"], theirs["start_logits"], atol=1e-5)


def test_differences_are_reported(
    directory: Path,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = json.loads((directory / "bertrt.json").read_text())
    report = manifest["text_graph"]
    assert report["file"] == "model_text.onnx"
    assert 0 < report["different"] < report["compared"]
    assert set(report["examples"]) & {"[CLS] special [SEP] inside [MASK]", "İstanbul ẞ ß straße"}
    assert "model_text.onnx" in {entry["name"] for entry in manifest["files"]}
    assert main(["inspect", str(directory)]) == 0
    assert f"{report['different']} of {report['compared']} texts" in capsys.readouterr().out
    with caplog.at_level(logging.WARNING):
        export(make_checkpoint("BertModel"), tmp_path / "out", with_tokenizer=True)
    assert f"splits {report['different']} of {report['compared']} texts" in caplog.text


def test_the_comparison_finds_a_wrong_tokenizer(directory: Path) -> None:
    state = json.loads((directory / "tokenizer.json").read_text())
    with bertrt.load(directory) as rt:
        attributes = tokenizer_attributes(state, rt.tokenizer)
        right = compare_tokens(tokenizer_graph(attributes, rt.tokenizer), rt.tokenizer, PLAIN)
        assert (right.compared, right.different) == (len(PLAIN), 0)
        wrong = attributes | {"do_lower_case": 0}
        parity = compare_tokens(tokenizer_graph(wrong, rt.tokenizer), rt.tokenizer, PLAIN)
    assert parity.different
    assert set(parity.examples) <= set(PLAIN)


@pytest.mark.parametrize(
    ("class_name", "options", "message"),
    [
        ("BertForMaskedLM", {}, "not for fill-mask on cpu"),
        ("BertForMultipleChoice", {}, "not for multiple-choice on cpu"),
    ],
)
def test_other_tasks_are_refused(
    class_name: str,
    options: dict[str, Any],
    message: str,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(ExportError, match=message):
        export(make_checkpoint(class_name), tmp_path / "out", with_tokenizer=True, **options)
    assert not (tmp_path / "out").exists()


def test_another_kind_of_tokenizer_is_refused(directory: Path) -> None:
    state = json.loads((directory / "tokenizer.json").read_text())
    with (
        bertrt.load(directory) as rt,
        pytest.raises(ExportError, match="a WordPiece with Lowercase and BertPreTokenizer"),
    ):
        tokenizer_attributes(state | {"normalizer": {"type": "Lowercase"}}, rt.tokenizer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MPNetTokenizer", r"puts <s> </s> </s> </s> around a pair .*: leave out --with-tokenizer"),
        ("RobertaTokenizer", r"is a BPE with None and ByteLevel.*: leave out --with-tokenizer"),
    ],
)
def test_other_classes_are_refused(
    tiny_tokenizers: ModuleType,
    export_folder: Callable[..., Any],
    tmp_path: Path,
    name: str,
    message: str,
) -> None:
    tiny_tokenizers.write(tmp_path / "checkpoint", name)
    tokenizer = export_folder(tmp_path / "checkpoint", tmp_path / "artifact")
    state = json.loads((tmp_path / "artifact" / "tokenizer.json").read_text(encoding="utf-8"))
    with pytest.raises(ExportError, match=message):
        tokenizer_attributes(state, tokenizer)


def with_settings(checkpoint: Path, folder: Path, **settings: Any) -> Path:
    """Copy a checkpoint and change its tokenizer_config.json."""
    shutil.copytree(checkpoint, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def test_both_texts_of_a_pair_may_have_one_token_type(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint("BertForSequenceClassification")
    names = ["input_ids", "attention_mask"]
    changed = with_settings(checkpoint, tmp_path / "in", model_input_names=names)
    export(changed, tmp_path / "out", with_tokenizer=True)
    outputs = run(tmp_path / "out", PLAIN, text_pair=np.array(PAIRS, object))
    assert not outputs["token_type_ids"].any()
    with bertrt.load(tmp_path / "out") as rt:
        arrays = {name: outputs[name] for name in ("input_ids", "attention_mask")}
        expected = rt.run(**arrays)["logits"]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)


def test_truncation_on_the_left_is_refused(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    changed = with_settings(make_checkpoint("BertModel"), tmp_path / "in", truncation_side="left")
    with pytest.raises(ExportError, match="truncation_side is 'left'"):
        export(changed, tmp_path / "out", with_tokenizer=True)


def test_the_error_without_the_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime_extensions", None)
    with pytest.raises(ExportError, match=r"install it with pip install 'bertrt\[text\]'"):
        export("demo", tmp_path / "out", task="feature-extraction", with_tokenizer=True)
