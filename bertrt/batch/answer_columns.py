"""The columns of a table that hold answers: one class for each form of an answer.

An answer is what the runtime gives for a row, and None for a row without one, which is null.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bertrt.batch.arrow import import_arrow
from bertrt.errors import InputError

__all__ = [
    "AnswerColumns",
    "JsonColumns",
    "LabelColumns",
    "SparseColumns",
    "TokenVectorColumns",
    "VectorColumns",
]


class AnswerColumns(Protocol):
    """Columns of answers."""

    def fields(self) -> dict[str, Any]:
        """Return the type of each column."""

    def arrays(self, answers: Sequence[Any]) -> list[Any]:
        """Return the columns of some rows."""


class VectorColumns:
    """`embedding`: a fixed-size list of `size` numbers of numpy's `dtype`."""

    def __init__(self, size: int, dtype: Any) -> None:
        self.size = size
        self.dtype = np.dtype(dtype)

    def fields(self) -> dict[str, Any]:
        arrow = import_arrow()
        return {"embedding": arrow.list_(arrow.from_numpy_dtype(self.dtype), self.size)}

    def arrays(self, answers: Sequence[Any]) -> list[Any]:
        arrow = import_arrow()
        matrix = np.zeros((len(answers), self.size), self.dtype)
        for row, answer in enumerate(answers):
            if answer is not None:
                matrix[row] = answer
        values = arrow.array(matrix.reshape(-1))
        nulls = arrow.array([answer is None for answer in answers], arrow.bool_())
        return [arrow.FixedSizeListArray.from_arrays(values, self.size, mask=nulls)]


class TokenVectorColumns:
    """`embeddings`: a list of vectors, one for each token."""

    def __init__(self, size: int) -> None:
        self._vectors = VectorColumns(size, np.float32)

    def fields(self) -> dict[str, Any]:
        return {"embeddings": import_arrow().list_(self._vectors.fields()["embedding"])}

    def arrays(self, answers: Sequence[Any]) -> list[Any]:
        (vectors,) = self._vectors.arrays([v for a in answers if a is not None for v in a])
        return [_lists(vectors, [None if a is None else len(a) for a in answers])]


class SparseColumns:
    """`ids` and `weights`: lists of equal length."""

    def fields(self) -> dict[str, Any]:
        arrow = import_arrow()
        return {"ids": arrow.list_(arrow.int32()), "weights": arrow.list_(arrow.float32())}

    def arrays(self, answers: Sequence[Any]) -> list[Any]:
        arrow = import_arrow()
        lengths = [None if answer is None else len(answer.ids) for answer in answers]
        there = [answer for answer in answers if answer is not None]
        ids = np.concatenate([np.empty(0, np.int32), *(a.ids.astype(np.int32) for a in there)])
        weights = np.concatenate([np.empty(0, np.float32), *(a.weights for a in there)])
        return [_lists(arrow.array(values), lengths) for values in (ids, weights)]


class LabelColumns:
    """`label`, its `score`, and `scores`, those of all labels in the model's order."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Take the model's labels. Raises InputError for a name that two have."""
        self.labels = list(labels)
        if len(set(labels)) < len(labels):
            raise InputError(
                "two labels of this model have the same name, so that scores could not be told "
                "apart: give them other names in the checkpoint's config.json, and export it again"
            )

    def fields(self) -> dict[str, Any]:
        arrow = import_arrow()
        number = arrow.float64()
        return {"label": arrow.string(), "score": number, "scores": arrow.list_(number)}

    def arrays(self, answers: Sequence[Any]) -> list[Any]:
        arrow = import_arrow()
        best = [None if answer is None else answer[0] for answer in answers]
        columns = {
            name: [None if a is None else a[name] for a in best] for name in ("label", "score")
        }
        columns["scores"] = [None if answer is None else self._scores(answer) for answer in answers]
        return [arrow.array(columns[name], type) for name, type in self.fields().items()]

    def _scores(self, answer: Sequence[dict[str, Any]]) -> list[float]:
        scores = {one["label"]: one["score"] for one in answer}
        return [scores[label] for label in self.labels]


class JsonColumns:
    """`answer`: the answer as JSON, as `bertrt run --json` prints it."""

    def fields(self) -> dict[str, Any]:
        return {"answer": import_arrow().string()}

    def arrays(self, answers: Sequence[Any]) -> list[Any]:
        arrow = import_arrow()
        texts = [None if a is None else json.dumps(a, ensure_ascii=False) for a in answers]
        return [arrow.array(texts, arrow.string())]


def _lists(values: Any, lengths: Sequence[int | None]) -> Any:
    """Return a list array: values in lists of these lengths, None for null."""
    arrow = import_arrow()
    offsets = np.cumsum([0, *(length or 0 for length in lengths)], dtype=np.int32)
    nulls = arrow.array([length is None for length in lengths], arrow.bool_())
    return arrow.ListArray.from_arrays(arrow.array(offsets), values, mask=nulls)
