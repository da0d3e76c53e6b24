"""The bertrt contender gives eager PyTorch's answers for every task, from texts and from ids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders.bertrt import EXPORT_TASKS, BertrtModel
from benchmarks.contenders.pytorch import TorchModel, load_module
from benchmarks.data.models import TEXT_TASKS, Model

CLASSES = {
    "embeddings": "BertModel",
    "classification": "BertForSequenceClassification",
    "fill-mask": "BertForMaskedLM",
    "sparse": "BertForMaskedLM",
}
# Of several lengths, so that answers sorted for a batch have to be put back in order.
TEXTS = ["the [MASK] sat on the mat .", "paris [MASK]", "plants create [MASK] through a process ."]


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_answers_equal_eager_pytorchs(
    task: str,
    make_checkpoint: Callable[..., Path],
    make_artifact: Callable[..., Path],
    tmp_path: Path,
) -> None:
    (tmp_path / task).symlink_to(make_checkpoint(CLASSES[task]))
    model = Model("tiny", str(tmp_path), "random", cls=2, sep=3, mask=4, pad=0, vocabulary=20)
    eager = TorchModel(load_module(model, task, attention="eager"), model, task)
    ours = BertrtModel(make_artifact(CLASSES[task], task=EXPORT_TASKS[task]), model, task, 1)
    np.testing.assert_allclose(ours.answer(TEXTS), eager.answer(TEXTS), rtol=1e-4, atol=1e-4)
    ids = np.array([[2, 5, 4, 6, 3], [2, 4, 7, 3, 0]])
    mask = (ids != 0).astype(np.int64)
    inputs = (ids, mask, np.zeros_like(ids))
    np.testing.assert_allclose(ours.run(*inputs), eager.run(*inputs), rtol=1e-4, atol=1e-4)
