"""ELECTRA: projected embeddings or none, and the activations of its heads."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bertrt

Exported = Callable[..., SimpleNamespace]
Arrays = dict[str, np.ndarray]


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("ForMaskedLM", {"embedding_size": 40}),  # as many as the hidden size: not projected
        ("Model", {"embedding_size": 128}),
    ],
    ids=str,
)
def test_sizes_of_embeddings(
    exported: Exported,
    theirs: Callable[..., Arrays],
    batch: Callable[..., Arrays],
    check_equal: Callable[..., None],
    head: str,
    changes: dict[str, Any],
) -> None:
    made = exported("electra", head, (), **changes)
    arrays = batch(made.checkpoint)
    projected = changes.get("embedding_size") != 40
    assert made.manifest.graph.fused["ResidualBias"] == 4 - projected
    with bertrt.load(made.folder, threads=1) as rt:
        check_equal(rt.run(**arrays), theirs(made.checkpoint, **arrays), arrays["attention_mask"])


@pytest.mark.parametrize(
    ("field", "value"), [("summary_type", "mean"), ("summary_use_proj", False)]
)
def test_another_summary_is_refused(
    encoder: Callable[..., Path], tmp_path: Path, field: str, value: object
) -> None:
    folder = encoder("electra", "ForMultipleChoice", **{field: value})
    with pytest.raises(bertrt.BertrtError, match=f"the config's {field} is {value!r}"):
        bertrt.export.export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_discriminator_is_no_head(encoder: Callable[..., Path], tmp_path: Path) -> None:
    """A pretrained ELECTRA has it: its encoder exports, and the error names other tasks."""
    folder = encoder("electra", "ForPreTraining")
    with pytest.raises(
        bertrt.BertrtError,
        match=r"none of which is a head that bertrt exports: .*feature-extraction",
    ):
        bertrt.export.export(folder, tmp_path / "out")
    manifest = bertrt.export.export(folder, tmp_path / "out", task="feature-extraction")
    assert manifest.architecture == "ElectraModel"
    assert [spec.name for spec in manifest.graph.outputs][:1] == ["last_hidden_state"]


def test_an_activation_without_a_kernel_names_its_layer(
    encoder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = encoder("electra", "ForMultipleChoice", summary_activation="mish")
    with pytest.raises(bertrt.BertrtError, match=r"the activation after bert.pooler.dense is one"):
        bertrt.export.export(folder, tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()
