"""A callable that answers the rows of tables: what Ray Data, Spark and Dask are given."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertrt._version import __version__
from bertrt.artifact.directory import Artifact
from bertrt.batch.answer_form import EMBED, AnswerForm, choose_form
from bertrt.batch.arrow import import_arrow
from bertrt.batch.finite import is_finite
from bertrt.batch.texts import read_texts
from bertrt.errors import ArtifactError, InputError, TooLongError, shorten
from bertrt.runtime import Runtime

__all__ = ["ON_ERROR", "TableAnswerer"]

# The names of columns that a table of answers may have.
ANSWER_COLUMNS = frozenset(
    "embedding embeddings ids weights label score scores answer truncated error".split()
)
# What becomes of a row that cannot be answered.
ON_ERROR = ("column", "fail")
# What an open artifact gives, which is not pickled.
_OPENED = ("_runtime", "_form", "_metadata")
_NOT_FINITE = (
    "the answer has numbers that are not finite: check the checkpoint's weights, or export it with "
    "more precision"
)
# Rows that are answered together: enough to sort well, few enough to hold.
_ROWS = 1024


class TableAnswerer:
    """Answers the text in each row of a pyarrow table.

    An instance can be pickled. It opens the artifact once where it is made, and once again in each
    process that it is sent to, where another artifact in its place is refused. Thread-safe.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        task: str | None = None,
        column: str = "text",
        id_column: str = "id",
        options: Mapping[str, Any] | None = None,
        on_error: str = "column",
        threads: int | str = "auto",
        allow_spinning: bool = True,
        max_batch_tokens: int | str = "auto",
    ) -> None:
        """Open an artifact to answer tables with.

        Args:
            directory: the artifact, a path that is the same in each process that answers.
            task: "embed" for the vectors of an artifact that gives some, or a task as for
                `bertrt.load`; the artifact's own when None.
            column: the column of texts.
            id_column: the column that is returned beside the answers.
            options: the options of the task, as a call, `embed`, `embed_sparse` or `embed_tokens`
                takes them. `kind`, "query" or "document", chooses the model's prompt for these.
            on_error: "column" writes why a row has no answer into the column `error`; "fail" raises
                it.
            threads, allow_spinning, max_batch_tokens: as for `bertrt.load`.

        Raises ArtifactError for a directory that is no artifact; InputError for an option that
        cannot be used, for a task that needs more than a text, and if pyarrow is missing.
        """
        if on_error not in ON_ERROR:
            raise InputError(f"on_error is {shorten(on_error)}: use {' or '.join(ON_ERROR)}")
        if id_column in ANSWER_COLUMNS:
            raise InputError(f"the id column is {id_column!r}, which answers have too: rename it")
        self._directory = Path(directory).absolute()
        self._task = task
        self._column = column
        self._id_column = id_column
        self._options = dict(options or {})
        self._on_error = on_error
        self._session: dict[str, Any] = {
            "threads": threads,
            "allow_spinning": allow_spinning,
            "max_batch_tokens": max_batch_tokens,
        }
        self._artifact_sha256: str | None = None
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        import_arrow()
        artifact = Artifact.open(self._directory, large_files_later=True)
        found = hashlib.sha256(artifact.manifest.to_json().encode()).hexdigest()
        if self._artifact_sha256 not in (None, found):
            raise ArtifactError(
                f"{str(self._directory)!r} has another artifact than when this job began: put the "
                "first one back, or start anew"
            )
        self._artifact_sha256 = found
        task = None if self._task == EMBED else self._task
        self._runtime = Runtime(artifact, task=task, **self._session)
        self._form: AnswerForm = choose_form(self._runtime, self._task, self._options)
        self._metadata: dict[str, str] = {
            "version": __version__,
            "weights_sha256": artifact.manifest.weights.sha256,
            "task": self._runtime.info["task"],
            **self._form.metadata,
        }

    def __getstate__(self) -> dict[str, Any]:
        kept_back = (*_OPENED, "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in kept_back}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Open the artifact on first use in a process that an instance was sent to."""
        if name not in _OPENED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._lock:
            if name not in self.__dict__:
                self._open()
            return self.__dict__[name]

    @property
    def task(self) -> str:
        """The task that it answers."""
        return self._metadata["task"]

    @property
    def artifact_sha256(self) -> str:
        """The hash of the artifact's manifest, which has those of all its files."""
        return str(self._artifact_sha256)

    def schema(self, id_type: Any) -> Any:
        """Return the pyarrow schema of answers to a table whose ids have a type.

        Its metadata say what answered: `bertrt.version`, `bertrt.weights_sha256`, `bertrt.task`
        and, for vectors, `bertrt.pooling`, `bertrt.normalize` and `bertrt.dimensions`.
        """
        arrow = import_arrow()
        fields = {
            self._id_column: id_type,
            **self._form.columns.fields(),
            "truncated": arrow.bool_(),
            "error": arrow.string(),
        }
        metadata = {f"bertrt.{name}": value for name, value in self._metadata.items()}
        return arrow.schema(list(fields.items()), metadata=metadata)

    def __call__(self, table: Any) -> Any:
        """Answer a pyarrow table.

        Returns a table with the id column, the columns of answers, `truncated` (whether a part of
        the text was cut off; null without an answer) and `error` (null, or why there is none), in
        the order of the rows. A null text has a null answer. The columns of answers are:

        - `embedding`, a fixed-size list of float32, from an artifact for feature-extraction;
        - `ids` and `weights`, two lists, for sparse-embedding;
        - `embeddings`, a list of vectors, for multi-vector-embedding;
        - `label`, `score`, and `scores`, of all labels in the order of `bertrt.labels` in the
          schema's metadata, for text-classification;
        - `answer`, JSON, for other tasks.

        Raises InputError if a column is missing or there twice, if the texts are no strings, and
        for a row that cannot be answered if `on_error` is "fail".
        """
        for name in (self._id_column, self._column):
            if name not in table.column_names:
                known = ", ".join(map(shorten, table.column_names))
                raise InputError(f"the table has no column {name!r}: it has {known}")
            if table.column_names.count(name) > 1:
                raise InputError(f"the table has several columns {name!r}: rename all but one")
        return self.answer(table[self._id_column], read_texts(table[self._column], self._column))

    def answer(self, ids: Any, texts: Sequence[str | InputError | None]) -> Any:
        """Answer texts, of which some are null and some are errors already, as a table.

        Args:
            ids: the rows' ids, an array of pyarrow.
            texts: as many texts.

        Raises InputError as a call does.
        """
        arrow = import_arrow()
        schema = self.schema(ids.type)
        groups = [
            self._answer_group(ids[start : start + _ROWS], texts[start : start + _ROWS], schema)
            for start in range(0, len(texts), _ROWS)
        ]
        return arrow.concat_tables(groups) if groups else schema.empty_table()

    def _answer_group(self, ids: Any, texts: Sequence[str | InputError | None], schema: Any) -> Any:
        arrow = import_arrow()
        asked = [row for row, text in enumerate(texts) if isinstance(text, str)]
        outcomes = self._runtime.answer_each(
            self._form.method, [texts[row] for row in asked], **self._form.options
        )
        answers: list[Any] = [None] * len(texts)
        truncated: list[bool | None] = [None] * len(texts)
        errors = [_explain(text, "") if isinstance(text, InputError) else None for text in texts]
        for row, outcome in zip(asked, outcomes, strict=True):
            if outcome.error is not None:
                errors[row] = _explain(outcome.error, str(texts[row]))
            elif not is_finite(outcome.answer):
                errors[row] = _NOT_FINITE
            else:
                answers[row], truncated[row] = outcome.answer, outcome.truncated
        if self._on_error == "fail" and (wrong := [r for r, e in enumerate(errors) if e]):
            row = wrong[0]
            id = shorten(ids[row].as_py())
            raise InputError(f"the row with {self._id_column} {id}: {errors[row]}")
        columns = [
            ids,
            *self._form.columns.arrays(answers),
            arrow.array(truncated, arrow.bool_()),
            arrow.array(errors, arrow.string()),
        ]
        return arrow.Table.from_arrays(columns, schema=schema)

    def close(self) -> None:
        """Free what the artifact holds. A later call opens it again; one under way may fail."""
        with self._lock:
            if "_runtime" in self.__dict__:
                self._runtime.close()
            for name in _OPENED:
                self.__dict__.pop(name, None)


def _explain(error: InputError, text: str) -> str:
    """Return why a row has no answer, without a part of its text."""
    if isinstance(error, TooLongError):
        return (
            f"the text has {error.tokens} tokens and the limit is {error.limit}: shorten it, or "
            "let truncation cut it"
        )
    return str(error).replace(shorten(text), "…") if text else str(error)
