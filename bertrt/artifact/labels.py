"""The names of a model's labels, from the three fields of a config.json that may say them.

`id2label`, `label2id` and `num_labels` are redundant, and people edit one of them. transformers
reads names of answers in the first and the entailment label in the second. Here each label has one
name, whatever reads it.
"""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["check_first_id", "ids_by_label", "named_otherwise", "read_labels", "stated_counts"]

# Far above any classifier; a larger id is damage, and would be a list of as many names.
_MOST_LABELS = 1_000_000


def read_labels(config: Mapping[str, Any], count: int | None = None) -> tuple[str, ...]:
    """Return the labels of a parsed config.json, in the order of their ids.

    A label has the name that `id2label` gives it; if that is missing or the default `LABEL_0`, …,
    the name in `label2id`. A name that is no string is spelled as in JSON, as JSON spells it in
    the keys of `label2id`; null is no name.

    Args:
        config: the contents of config.json.
        count: the number of labels; None for what the config says.

    Raises ValueError for a field that is damaged.
    """
    names, other_names = _id2label(config), _label2id(config)
    if count is None:
        count = stated_counts(config)[0]
    taken = {name for id, name in names.items() if name != _default(id)}
    labels = []
    for id in range(count):
        name = names.get(id, _default(id))
        other = other_names.get(id, name)
        labels.append(other if name == _default(id) and other not in taken else name)
    return tuple(labels)


def stated_counts(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of labels that the config's fields say, the most believed first.

    As in transformers, a config that says nothing has two, and `label2id` alone says nothing if
    there are other fields. Raises ValueError for a field that is damaged.
    """
    counts = []
    if config.get("id2label") is not None:
        ids = [_id(id, "id2label") for id in _table(config, "id2label")]
        counts.append(max(ids, default=-1) + 1)
    if config.get("num_labels") is not None:
        counts.append(int(config["num_labels"]))
    if not counts:
        counts.append(max(_label2id(config), default=1) + 1)
    return tuple(counts)


def check_first_id(config: Mapping[str, Any], count: int) -> None:
    """Raise ValueError if the field that names a model's `count` labels counts them from 1.

    `label2id` is such a field if `id2label` has no names. An id that is missing is no error, such
    as 0 where the last one is `count` - 1. Raises it for a field that is damaged too.
    """
    fields = {"id2label": {_id(id, "id2label") for id in _table(config, "id2label")}}
    if all(name == _default(id) for id, name in _id2label(config).items()):
        fields["label2id"] = set(_label2id(config))
    for field, ids in fields.items():
        if ids and min(ids) == 1 and max(ids) == count:
            raise ValueError(
                f"the ids of {field} start at 1 and end at {count}, the number of labels: they "
                "must start at 0"
            )


def ids_by_label(labels: tuple[str, ...]) -> dict[str, int]:
    """Return the id of each label, the counterpart of `id2label`; of equal labels the first's."""
    return {label: id for id, label in reversed(list(enumerate(labels)))}


def named_otherwise(config: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, int]:
    """Return the names that the config gives to ids, and that are not those of `labels`.

    The default names are left out. These are what `id2label` and `label2id` contradict each other
    in, and the names of ids that the model does not have.
    """
    other_names = _table(config, "label2id").items()
    given = {name: id for id, name in _id2label(config).items()}
    given |= {_spell(name): _id(id, "label2id") for name, id in other_names}
    known = dict(enumerate(labels))
    return {name: id for name, id in given.items() if name not in (known.get(id), _default(id))}


def _id2label(config: Mapping[str, Any]) -> dict[int, str]:
    table = _table(config, "id2label")
    return {_id(id, "id2label"): _spell(name) for id, name in table.items() if name is not None}


def _label2id(config: Mapping[str, Any]) -> dict[int, str]:
    """Return the names in label2id by id; of several names of an id the first."""
    names: dict[int, str] = {}
    for name, id in _table(config, "label2id").items():
        names.setdefault(_id(id, "label2id"), _spell(name))
    return names


def _table(config: Mapping[str, Any], field: str) -> Mapping[Any, Any]:
    table = config.get(field)
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise ValueError(f"{field} is a {type(table).__name__}, not an object")
    return table


def _id(value: Any, field: str) -> int:
    try:
        id = int(value)
    except (TypeError, ValueError):
        id = -1
    if isinstance(value, (bool, float)) or not 0 <= id < _MOST_LABELS:
        raise ValueError(f"{field} has the id {value!r}: ids are whole numbers from 0")
    return id


def _spell(name: Any) -> str:
    if isinstance(name, (list, dict)):
        raise ValueError(f"a label's name is {name!r}, not a string")
    return name if isinstance(name, str) else json.dumps(name)


def _default(id: int) -> str:
    return f"LABEL_{id}"
