"""Labels that the three fields of a config.json give: agreeing, missing, default, and damaged."""

from typing import Any

import pytest

from bertrt.artifact.labels import (
    check_first_id,
    ids_by_label,
    named_otherwise,
    read_labels,
    stated_counts,
)
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ArtifactError

NLI = ("contradiction", "neutral", "entailment")
BY_ID = {str(id): name for id, name in enumerate(NLI)}
BY_LABEL = {name: id for id, name in enumerate(NLI)}
DEFAULT_BY_ID = {str(id): f"LABEL_{id}" for id in range(3)}
DEFAULT_BY_LABEL = {f"LABEL_{id}": id for id in range(3)}


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": BY_ID, "label2id": BY_LABEL}, NLI),
        ({"id2label": BY_ID}, NLI),
        ({"id2label": dict(enumerate(NLI))}, NLI),
        ({"id2label": BY_ID, "label2id": None}, NLI),
        ({"id2label": BY_ID, "label2id": {}}, NLI),
        ({"id2label": BY_ID, "label2id": DEFAULT_BY_LABEL}, NLI),
        ({"id2label": BY_ID, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}, NLI),
        ({"label2id": BY_LABEL}, NLI),
        ({"label2id": {name: str(id) for name, id in BY_LABEL.items()}}, NLI),
        ({"id2label": None, "label2id": BY_LABEL}, NLI),
        ({"id2label": DEFAULT_BY_ID, "label2id": BY_LABEL}, NLI),
        ({"num_labels": 3, "label2id": BY_LABEL}, NLI),
        # Where the two contradict each other, id2label counts.
        ({"id2label": BY_ID, "label2id": dict(zip(NLI, (2, 1, 0), strict=True))}, NLI),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": BY_LABEL}, ("a", "b")),
        # A name is not given twice.
        ({"id2label": {"0": "LABEL_0", "1": "pos"}, "label2id": {"pos": 0}}, ("LABEL_0", "pos")),
        # Gaps in one are filled from the other.
        ({"id2label": {"2": "entailment", "0": "a"}, "label2id": BY_LABEL}, ("a", *NLI[1:])),
        ({"id2label": {"2": "c", "0": "a"}}, ("a", "LABEL_1", "c")),
        ({"id2label": {"0": None, "1": "b"}, "label2id": {"a": 0}}, ("a", "b")),
        # Names that are not strings are spelled as JSON spells keys.
        ({"id2label": {"0": 0, "1": 1}}, ("0", "1")),
        ({"id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}}, ("0", "1")),
        ({"id2label": {"0": False, "1": True}}, ("false", "true")),
        ({"id2label": {"0": 0.5, "1": None}}, ("0.5", "LABEL_1")),
        ({"id2label": {"0": "same", "1": "same"}}, ("same", "same")),
        ({"id2label": {}}, ()),
    ],
    ids=str,
)
def test_labels(config: dict[str, Any], labels: tuple[str, ...]) -> None:
    assert read_labels(config) == labels
    assert ModelConfig.from_json(config).labels == labels


def test_labels_are_in_the_order_of_their_ids() -> None:
    names = {"10": "tenth", "0": "zeroth", "2": "second"}
    labels = read_labels({"id2label": names})
    assert len(labels) == 11
    assert (labels[0], labels[1], labels[2], labels[10]) == ("zeroth", "LABEL_1", "second", "tenth")


def test_the_count_may_be_given() -> None:
    five = {str(id): f"name {id}" for id in range(5)}
    assert read_labels({"id2label": five, "num_labels": 3}, 3) == ("name 0", "name 1", "name 2")
    assert read_labels({"id2label": BY_ID, "num_labels": 4}, 4) == (*NLI, "LABEL_3")
    assert stated_counts({"id2label": five, "num_labels": 3}) == (5, 3)
    assert stated_counts({"num_labels": 3, "label2id": BY_LABEL | {"more": 3}}) == (3,)
    assert stated_counts({"label2id": BY_LABEL}) == (3,)
    assert stated_counts({}) == (2,)


def test_ids_by_label() -> None:
    assert ids_by_label(NLI) == BY_LABEL
    assert ids_by_label(("same", "other", "same")) == {"same": 0, "other": 1}


def test_ids_that_start_at_1() -> None:
    from_1 = {str(id): name for id, name in enumerate(NLI, start=1)}
    with pytest.raises(ValueError, match="ids of id2label start at 1 and end at 3, the number"):
        check_first_id({"id2label": from_1}, 3)
    check_first_id({"id2label": from_1}, 4)
    check_first_id({"id2label": {**from_1, "0": None}}, 3)
    check_first_id({"id2label": {}, "label2id": None, "num_labels": 3}, 3)


def test_what_is_named_otherwise() -> None:
    assert named_otherwise({"id2label": BY_ID, "label2id": BY_LABEL}, NLI) == {}
    assert named_otherwise({"id2label": BY_ID, "label2id": DEFAULT_BY_LABEL}, NLI) == {}
    assert named_otherwise({"id2label": DEFAULT_BY_ID, "label2id": BY_LABEL}, NLI) == {}
    more = {"id2label": BY_ID, "label2id": {**BY_LABEL, "fourth": 3, "neutral": 0}}
    assert named_otherwise(more, NLI) == {"fourth": 3, "neutral": 0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"id2label": ["no"]}, "id2label is a list, not an object"),
        ({"label2id": "no"}, "label2id is a str, not an object"),
        ({"id2label": {"zero": "no"}}, "id2label has the id 'zero'"),
        ({"id2label": {"-1": "no"}}, "id2label has the id '-1'"),
        ({"id2label": {"1000000000": "no"}}, "id2label has the id '1000000000'"),
        ({"label2id": {"no": True}}, "label2id has the id True"),
        ({"label2id": {"no": 0.5}}, r"label2id has the id 0\.5"),
        ({"label2id": {"no": None}}, "label2id has the id None"),
        ({"id2label": {"0": ["no"]}}, r"a label's name is \['no'\], not a string"),
    ],
)
def test_damaged_fields_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(config)
    with pytest.raises(ArtifactError, match=rf"config\.json is damaged: .*{message}"):
        ModelConfig.from_json(config)
