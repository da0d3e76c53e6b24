"""Settle the labels of a checkpoint's config, so that its fields agree with each other.

The names are of one mind then, whether bertrt, transformers or Optimum reads the artifact's
config.json, and whichever field they read.
"""

import logging
from collections.abc import Mapping
from typing import Any

from bertrt.artifact.labels import (
    check_first_id,
    ids_by_label,
    named_otherwise,
    read_labels,
    stated_counts,
)
from bertrt.errors import ExportError

__all__ = ["LABEL_FIELDS", "with_agreeing_labels"]

LABEL_FIELDS = ("id2label", "label2id", "num_labels")

_log = logging.getLogger(__name__)


def with_agreeing_labels(config: Mapping[str, Any], rows: int | None) -> dict[str, Any]:
    """Return a parsed config.json whose `id2label` and `label2id` are each other's inverse.

    What the config says otherwise is logged.

    Args:
        config: the contents of config.json.
        rows: the number of the classifier's rows, which decides between fields that say different
            numbers; None without a classifier.

    Raises ExportError for a field that is damaged, or that counts labels from 1.
    """
    if not any(config.get(field) is not None for field in LABEL_FIELDS):
        return dict(config)
    try:
        if rows is not None:
            check_first_id(config, rows)
        counts = stated_counts(config)
        labels = read_labels(config, rows if rows in counts else counts[0])
        ignored = named_otherwise(config, labels)
    except (TypeError, ValueError) as error:
        raise ExportError(f"the config's labels cannot be read: {error}") from error
    if ignored:
        _log.warning(
            "the labels are %s; what the config says otherwise is ignored: %s", labels, ignored
        )
    others = {name: value for name, value in config.items() if name != "num_labels"}
    return {**others, "id2label": dict(enumerate(labels)), "label2id": ids_by_label(labels)}
