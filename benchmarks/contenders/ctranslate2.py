"""CTranslate2's Encoder, on its own conversion of the transformers checkpoint."""

from pathlib import Path

import numpy as np

from benchmarks.contenders.answers import finish, load_tokenizer
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS", "CTranslate2Model"]

# The encoder has no batcher of its own, unlike the translator, so texts are sorted by length and
# cut into batches of 32, as a user has to do it. It leaves out the padding inside a batch.
_BATCH = 32


class CTranslate2Model:
    """A converted encoder and mean pooling; a `LoadedModel`."""

    def __init__(
        self, folder: Path, model: Model, task: str, threads: int, *, precision: str
    ) -> None:
        """Load what `_convert` wrote; one batch at a time has all threads."""
        import ctranslate2

        self._views = ctranslate2.StorageView
        self._encoder = ctranslate2.Encoder(
            str(folder / "model"),
            device="cpu",
            compute_type=precision,
            inter_threads=1,
            intra_threads=threads,
        )
        self._tokenizer = load_tokenizer(model.checkpoint(task))
        self._task = task
        self._mask_id = model.mask

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `LoadedModel`; the token types are those of a single text, as the encoder's are."""
        lengths = attention_mask.sum(axis=1).astype(np.int32)
        output = self._encoder.forward_batch(
            self._views.from_array(np.ascontiguousarray(input_ids, dtype=np.int32)),
            self._views.from_array(lengths),
        )
        hidden = np.asarray(output.last_hidden_state)
        return finish(self._task, hidden, input_ids, attention_mask, self._mask_id)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        encoded = self._tokenizer(texts)["input_ids"]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        answers: list[np.ndarray] = [np.empty(0)] * len(texts)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = self._tokenizer.pad(
                {"input_ids": [encoded[i] for i in rows]}, return_tensors="np"
            )
            ids, mask = batch["input_ids"], batch["attention_mask"]
            for i, answer in zip(rows, self.run(ids, mask, np.zeros_like(ids)), strict=True):
                answers[i] = answer
        return np.stack(answers)


def _contender(title: str, *, precision: str) -> Contender:
    def prepare(model: Model, task: str, folder: Path) -> None:
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(str(model.checkpoint(task)))
        converter.convert(str(folder / "model"), quantization=precision)

    def load(model: Model, task: str, folder: Path, threads: int) -> CTranslate2Model:
        return CTranslate2Model(folder, model, task, threads, precision=precision)

    return Contender(
        title,
        precision,
        ("ctranslate2", "torch", "transformers"),
        lambda: packages_missing("ctranslate2", "torch", "transformers"),
        load,
        prepare,
        tasks=("embeddings",),
    )


CONTENDERS = {
    "ctranslate2_float32": _contender("CTranslate2 float32", precision="float32"),
    "ctranslate2_int8": _contender("CTranslate2 int8", precision="int8"),
}
