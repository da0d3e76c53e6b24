"""bertrt's contender answers what eager PyTorch does, for every task and in both of its ways."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.bertrt_runtime import TASKS, BertrtContender
from common.pytorch import TorchContender, load_model
from models import Model

CLASSES = {
    "embeddings": "BertModel",
    "classification": "BertForSequenceClassification",
    "fill-mask": "BertForMaskedLM",
}
# Of several lengths, so that what is sorted for a batch has to come back in its place.
TEXTS = ["the [MASK] sat on the mat .", "paris [MASK]", "plants create [MASK] through a process ."]


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_those_of_eager_pytorch(
    task: str,
    make_checkpoint: Callable[..., Path],
    make_artifact: Callable[..., Path],
    tmp_path: Path,
) -> None:
    (tmp_path / task).symlink_to(make_checkpoint(CLASSES[task]))
    model = Model("tiny", str(tmp_path), "random", cls=2, sep=3, mask=4, pad=0, vocabulary=20)
    eager = TorchContender(load_model(model, task, attention="eager"), model, task)
    ours = BertrtContender(make_artifact(CLASSES[task], task=TASKS[task]), model, task, 1)
    np.testing.assert_allclose(ours.answer(TEXTS), eager.answer(TEXTS), rtol=1e-4, atol=1e-4)
    ids = np.array([[2, 5, 4, 6, 3], [2, 4, 7, 3, 0]])
    mask = (ids != 0).astype(np.int64)
    inputs = (ids, mask, np.zeros_like(ids))
    np.testing.assert_allclose(ours.run(*inputs), eager.run(*inputs), rtol=1e-4, atol=1e-4)
