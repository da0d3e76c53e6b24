"""A checkpoint's labels: one truth in the model's config, whichever field of the config has it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

import bertrt
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.heads import head_for

Make = Callable[..., Path]
NLI = ["contradiction", "neutral", "entailment"]
BY_ID = {str(id): name for id, name in enumerate(NLI)}
BY_LABEL = {name: id for id, name in enumerate(NLI)}
DEFAULT = {f"LABEL_{id}": id for id in range(3)}
FIELDS = ("id2label", "label2id", "num_labels")


def written(folder: Path, output: Path, **labels: Any) -> dict[str, Any]:
    """Return the config.json of a three-way classifier whose config has these fields of labels."""
    checkpoint = open_checkpoint(str(folder))
    config = {name: value for name, value in checkpoint.config.items() if name not in FIELDS}
    model: Any = build_model(
        head_for("text-classification", None), replace(checkpoint, config={**config, **labels})
    )
    model.config.save_pretrained(output)
    data: dict[str, Any] = json.loads((output / "config.json").read_text())
    return data


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": BY_ID},
        {"id2label": BY_ID, "label2id": DEFAULT},
        {"id2label": BY_ID, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
        {"id2label": {id: f"LABEL_{id}" for id in "012"}, "label2id": BY_LABEL},
        {"label2id": BY_LABEL},
        {"label2id": BY_LABEL, "num_labels": 3},
        {"id2label": BY_ID, "num_labels": 2},
        {"id2label": {**BY_ID, "3": "surplus"}, "num_labels": 3},
        {"id2label": BY_ID, "label2id": {**BY_LABEL, "surplus": 3}},
    ],
    ids=str,
)
def test_both_maps_are_written_and_agree(
    make_checkpoint: Make, tmp_path: Path, labels: dict[str, Any]
) -> None:
    data = written(make_checkpoint("BertForSequenceClassification"), tmp_path, **labels)
    assert data["id2label"] == BY_ID
    assert data["label2id"] == BY_LABEL
    assert ModelConfig.from_json(data).labels == tuple(NLI)
    # As transformers, and so Optimum, reads it.
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert (config.id2label, config.label2id) == (dict(enumerate(NLI)), BY_LABEL)
    assert config.num_labels == 3


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": {"0": "a", "1": "b"}},
        {"id2label": {**BY_ID, "3": "d"}},
        {"label2id": {"a": 0, "b": 1}},
        {"num_labels": 4},
        {},
    ],
    ids=str,
)
def test_no_field_that_says_the_classifiers_rows(
    make_checkpoint: Make, tmp_path: Path, labels: dict[str, Any]
) -> None:
    with pytest.raises(ExportError, match=r"num_labels is \d, and 'classifier.weight' has 3"):
        written(make_checkpoint("BertForSequenceClassification"), tmp_path, **labels)


FROM_1 = {str(id): name for id, name in enumerate(NLI, start=1)}
LABEL_FROM_1 = {name: id for id, name in enumerate(NLI, start=1)}


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"id2label": FROM_1}, "id2label"),
        ({"id2label": FROM_1, "label2id": LABEL_FROM_1}, "id2label"),
        ({"id2label": FROM_1, "label2id": BY_LABEL}, "id2label"),
        # Here the names would be those of the labels beside them.
        ({"id2label": FROM_1, "num_labels": 3}, "id2label"),
        ({"id2label": {"1": "LABEL_1", "2": "LABEL_2", "3": "LABEL_3"}}, "id2label"),
        ({"id2label": {"1": "a", "3": None}}, "id2label"),
        ({"label2id": LABEL_FROM_1}, "label2id"),
        ({"label2id": LABEL_FROM_1, "num_labels": 3}, "label2id"),
        ({"label2id": LABEL_FROM_1, "id2label": {id: f"LABEL_{id}" for id in "012"}}, "label2id"),
    ],
    ids=str,
)
def test_ids_that_start_at_1(
    make_checkpoint: Make, tmp_path: Path, labels: dict[str, Any], field: str
) -> None:
    message = f"the ids of {field} start at 1 and end at 3, the number of labels: .* start at 0"
    with pytest.raises(ExportError, match=message):
        written(make_checkpoint("BertForSequenceClassification"), tmp_path, **labels)


def test_a_missing_id_is_not_a_start_at_1(make_checkpoint: Make, tmp_path: Path) -> None:
    folder = make_checkpoint("BertForSequenceClassification")
    data = written(folder, tmp_path, id2label={"1": "b", "2": "c"})
    assert data["id2label"] == {"0": "LABEL_0", "1": "b", "2": "c"}
    # The names come from the other field, as before.
    data = written(folder, tmp_path, id2label=BY_ID, label2id=LABEL_FROM_1)
    assert data["label2id"] == BY_LABEL


def test_names_that_are_no_strings(make_checkpoint: Make, tmp_path: Path) -> None:
    folder = make_checkpoint("BertForSequenceClassification")
    data = written(folder, tmp_path, id2label={"0": 0, "1": True, "2": None})
    assert data["id2label"] == {"0": "0", "1": "true", "2": "LABEL_2"}
    assert data["label2id"] == {"0": 0, "true": 1, "LABEL_2": 2}


@pytest.mark.parametrize("table", [["a"], {"a": 0}, {"0": ["a"]}])
def test_damaged_labels(make_checkpoint: Make, tmp_path: Path, table: Any) -> None:
    with pytest.raises(ExportError, match="the config's labels cannot be read"):
        written(make_checkpoint("BertForSequenceClassification"), tmp_path, id2label=table)


def test_a_contradiction_is_logged(
    make_checkpoint: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_checkpoint("BertForSequenceClassification")
    written(folder, tmp_path, id2label=BY_ID, label2id=DEFAULT)
    assert not caplog.records
    turned = {"contradiction": 2, "neutral": 1, "entailment": 0}
    data = written(folder, tmp_path, id2label=BY_ID, label2id=turned)
    assert data["label2id"] == BY_LABEL
    (record,) = caplog.records
    assert "is ignored: {'contradiction': 2, 'entailment': 0}" in record.getMessage()


def test_zero_shot_finds_the_entailment_label(make_checkpoint: Make, tmp_path: Path) -> None:
    """Answers of the artifact are those of transformers with the config corrected by hand."""
    right = make_checkpoint("BertForSequenceClassification")
    folder = Path(shutil.copytree(right, tmp_path / "edited"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "label2id": DEFAULT}))
    output = tmp_path / "artifact"
    export(folder, output, task="zero-shot-classification", device="any")
    expected = transformers.pipeline("zero-shot-classification", model=str(right))(
        "the cat sat", ["sports", "film"]
    )
    with bertrt.load(output) as rt:
        answer = rt("the cat sat", candidate_labels=["sports", "film"])
        assert rt.info["labels"] == NLI
    assert answer["labels"] == expected["labels"]
    assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-4)
    assert json.loads((output / "config.json").read_text())["label2id"] == BY_LABEL
