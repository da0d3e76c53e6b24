"""int8 exports: close to float32, the same in any batch, or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.artifact.directory import Artifact
from bertrt.cli import main
from bertrt.errors import ExportError, ParityError
from bertrt.export import export
from bertrt.export.heads import HEADS

TEXTS = ["John Smith works in London.", "the cat sat on the mat and the dog ran", "a", "!?", "who"]
# With random weights most decisions are near ties.
LENIENT = {"min_agreement": 0.6}


@pytest.mark.parametrize(
    "class_name", [head.class_name for head in HEADS if head.class_name != "BertModel"]
)
def test_every_head(int8_artifact: Any, class_name: str) -> None:
    made = int8_artifact(class_name, **LENIENT)
    manifest = Artifact.open(made.int8).manifest
    assert manifest.target["dtype"] == "int8"
    assert manifest.graph.fused["MatMulIntegerToFloat"] >= 8
    report = manifest.quantization
    assert report is not None
    assert report["bound"] == {"agreement": 0.6}
    assert report["agreement"] >= 0.6
    assert report["alone_and_in_a_batch"] >= 0.9999
    assert report["products_in_int8"] >= 0.5
    with bertrt.load(made.int8, threads=1) as ours, bertrt.load(made.float32, threads=1) as plain:
        arrays = {"input_ids": np.array([[2, 40, 41, 42, 3]])}
        if class_name == "BertForMultipleChoice":
            arrays = {"input_ids": np.array([[[2, 40, 41, 3], [2, 50, 51, 3]]])}
        answer, expected = ours.run(**arrays), plain.run(**arrays)
        assert list(answer) == list(expected)
        for name, value in expected.items():
            assert answer[name].shape == value.shape
            error = np.linalg.norm(answer[name] - value) / np.linalg.norm(value)
            assert 0 < error < 0.2, name


def test_three_numbers_and_their_worst(make_checkpoint: Any, tmp_path: Path, capsys: Any) -> None:
    checkpoint = make_checkpoint(
        "BertForSequenceClassification", num_labels=3, problem_type="regression"
    )
    output = tmp_path / "out"
    manifest = export(checkpoint, output, dtype="int8", min_agreement=0.5)
    report = manifest.quantization
    assert report is not None
    (judged,) = report["judged"]
    assert judged["what"] == "numbers"
    assert judged["count"] == 3 * report["answers"]
    assert 0.5 <= judged["share"] == report["agreement"] < 1
    assert main(["inspect", str(output)]) == 0
    assert f"of {judged['count']} numbers stay the same" in capsys.readouterr().out
    # The largest of three numbers hardly ever changes, and says nothing.
    with pytest.raises(ParityError, match=rf"an agreement of {judged['count']} numbers of at"):
        export(checkpoint, tmp_path / "strict", dtype="int8", min_agreement=0.9999)
    assert not (tmp_path / "strict").exists()


def test_entities_are_judged(int8_artifact: Any) -> None:
    made = int8_artifact("BertForTokenClassification", **LENIENT)
    report = Artifact.open(made.int8).manifest.quantization
    assert report is not None
    shares = {kind["what"]: kind["share"] for kind in report["judged"]}
    assert list(shares) == ["tokens", "entities"]
    # One changed token changes an entity or more.
    assert shares["entities"] == report["agreement"] < shares["tokens"]


def test_embeddings_are_close_and_independent_of_the_batch(int8_artifact: Any) -> None:
    made = int8_artifact("BertModel")
    with bertrt.load(made.int8, threads=1) as ours, bertrt.load(made.float32, threads=1) as plain:
        for pooling in ("mean", "cls"):
            together = ours.embed(TEXTS, pooling=pooling)
            exact = plain.embed(TEXTS, pooling=pooling)
            assert (together * exact).sum(axis=1).min() >= 0.99
            assert not np.array_equal(together, exact)
            for text, vector in zip(TEXTS, together, strict=True):
                np.testing.assert_allclose(ours.embed(text, pooling=pooling), vector, atol=1e-5)


def test_inspect_shows_the_bound_and_the_layers(int8_artifact: Any, capsys: Any) -> None:
    made = int8_artifact("BertForSequenceClassification", **LENIENT)
    assert main(["inspect", str(made.int8)]) == 0
    shown = capsys.readouterr().out
    assert "(bound 0.6)" in shown
    assert "before quantization" in shown
    assert "bert.encoder.layer.0.intermediate.dense" in shown
    assert main(["inspect", str(made.int8), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quantization"]["bound"] == {"agreement": 0.6}


def test_a_calibration_file(make_checkpoint: Any, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(f"{word} lives in london" for word in "abcdefghijklmnop"))
    output = tmp_path / "out"
    manifest = export(
        make_checkpoint("BertForSequenceClassification"),
        output,
        dtype="int8",
        calibration=file,
        min_agreement=0.5,
    )
    assert manifest.quantization is not None
    expected = {"texts": "texts.txt", "calibrated_on": 12, "held_out": 4}
    assert manifest.quantization["calibration"] == expected


def test_a_reranker_is_judged_by_its_orders_and_its_scores(
    make_checkpoint: Any, tmp_path: Path, capsys: Any
) -> None:
    checkpoint = make_checkpoint("BertForSequenceClassification", num_labels=1)
    output, plain = tmp_path / "out", tmp_path / "plain"
    report = export(checkpoint, output, dtype="int8", min_agreement=0.7).quantization
    assert report is not None
    assert report["calibration"] == {"pairs": "built-in", "calibrated_on": 304, "held_out": 480}
    orders, scores = report["judged"]
    assert [orders["what"], scores["what"]] == ["orders of two passages", "scores"]
    assert 0.7 <= min(orders["share"], scores["share"]) == report["agreement"] < 1
    assert scores["count"] == 480
    assert report["alone_and_in_a_batch"] >= 0.9999
    assert main(["inspect", str(output)]) == 0
    shown = capsys.readouterr().out
    assert f"of {orders['count']} orders of two passages stay the same" in shown
    assert "scales from 304 pairs (built-in)" in shown
    # On lists that are in neither set, by the definition of Kendall's tau.
    export(checkpoint, plain)
    with bertrt.load(output, threads=1) as ours, bertrt.load(plain, threads=1) as exact:
        taus = []
        for query in TEXTS:
            pairs = [
                (query, f"{text} {other}") for text in TEXTS for other in ("london", "the dog")
            ]
            a, b = ours.score(pairs), exact.score(pairs)
            i, j = np.triu_indices(len(pairs), 1)
            taus.append(np.mean(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])))
    assert 0.4 < np.mean(taus) < 1
    with pytest.raises(
        ParityError, match=r"an agreement of \d+ (scores|orders of two passages) of"
    ):
        export(checkpoint, tmp_path / "strict", dtype="int8", min_agreement=0.99999)


def test_a_regression_of_single_texts_is_no_reranker(make_checkpoint: Any, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(
        "BertForSequenceClassification", num_labels=1, problem_type="regression"
    )
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("who\tjohn\n" * 40)
    with pytest.raises(ExportError, match="has pairs, which are for rerankers"):
        export(checkpoint, tmp_path / "out", dtype="int8", calibration=pairs)
    manifest = export(checkpoint, tmp_path / "out", dtype="int8", min_agreement=0.5)
    assert manifest.quantization is not None
    assert [kind["what"] for kind in manifest.quantization["judged"]] == ["numbers"]
    assert manifest.quantization["calibration"]["texts"] == "built-in"


def test_a_file_of_pairs(make_checkpoint: Any, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("BertForSequenceClassification", num_labels=1)
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "\n".join(json.dumps({"query": f"who is {i}", "passage": f"john {i}"}) for i in range(40))
    )
    options: dict[str, Any] = {"dtype": "int8", "calibration": file, "min_agreement": 0.5}
    report = export(checkpoint, tmp_path / "out", **options).quantization
    assert report is not None
    assert report["calibration"] == {"pairs": "pairs.jsonl", "calibrated_on": 60, "held_out": 100}
    file.write_text("a text\n" * 40)
    with pytest.raises(ExportError, match=r"line 1 of the calibration file .* is 'a text'"):
        export(checkpoint, tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()


def test_a_reranker_that_scores_everything_alike(make_checkpoint: Any, tmp_path: Path) -> None:
    import torch
    import transformers

    folder = make_checkpoint("BertForSequenceClassification", num_labels=1)
    equal = tmp_path / "equal"
    shutil.copytree(folder, equal)
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.zero_()
    model.save_pretrained(equal)
    report = export(equal, tmp_path / "out", dtype="int8").quantization
    assert report is not None
    assert [(kind["share"], kind["count"]) for kind in report["judged"]] == [(1, 0), (1, 480)]


def test_no_mixture_meets_the_bound(make_checkpoint: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    message = r"no int8 mixture .* to accept lower accuracy, pass --min-cosine"
    with pytest.raises(ParityError, match=message):
        export(make_checkpoint("BertModel"), output, dtype="int8", min_cosine=0.9999999)
    assert not output.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int4"}, "unknown dtype 'int4'"),
        ({"dtype": "int8", "device": "cuda"}, "int8 graphs are made for the device 'any' or 'cpu'"),
        ({"min_cosine": 0.9}, "min_cosine is 0.9, which is for int8 only"),
        ({"dtype": "int8", "min_cosine": 1.5}, "min_cosine is 1.5"),
        ({"dtype": "int8", "min_agreement": 0}, "min_agreement is 0"),
        ({"dtype": "int8", "calibration": "nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export("demo", tmp_path / "out", **options)


def test_the_command_line(make_checkpoint: Any, tmp_path: Path, capsys: Any) -> None:
    checkpoint = str(make_checkpoint("BertForNextSentencePrediction"))
    arguments = ["export", "--model", checkpoint, "--output", str(tmp_path / "out")]
    assert main([*arguments, "--dtype", "int8", "--min-agreement", "0.5"]) == 0
    assert "agreement (bound 0.5)" in capsys.readouterr().out
