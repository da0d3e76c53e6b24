"""ELECTRA: BERT without pooler, whose embeddings may have another size than its hidden states.

Source: transformers/models/electra/modeling_electra.py.
"""

from typing import Any, ClassVar

import torch
from transformers.activations import ACT2FN

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import ENCODER_TASKS, Architecture
from bertrt.export.architectures.embeddings import ProjectedEmbeddings
from bertrt.export.architectures.language_model import resize_transform, set_activation
from bertrt.export.architectures.roberta import SENTENCE

__all__ = ["Electra"]


class Electra(Architecture):
    """The layer before the classifier is BERT's pooler with GELU."""

    classes: ClassVar = {"electra": "Electra"}
    base = "electra"
    parts = ("embeddings.", "embeddings_project.", "encoder.")
    tasks = ENCODER_TASKS | {"text-generation"}
    has_pooler = False
    names = (
        ("electra.embeddings_project.", "bert.embeddings.projection."),
        ("electra.", "bert."),
        ("generator_predictions.dense.", "cls.predictions.transform.dense."),
        ("generator_predictions.LayerNorm.", "cls.predictions.transform.LayerNorm."),
        ("generator_lm_head.bias", "cls.predictions.bias"),
        ("generator_lm_head.", "cls.predictions.decoder."),
        ("discriminator_predictions.", None),
        ("sequence_summary.", None),
    )
    names_in_head: ClassVar = {
        "text-classification": SENTENCE,
        "multiple-choice": (("sequence_summary.summary.", "bert.pooler.dense."),),
    }

    def bert_fields(self) -> dict[str, Any]:
        """Return the fields of a BertConfig, and whether the embeddings are projected.

        The activation of the language model's head is GELU in any case.
        """
        fields = super().bert_fields()
        return {**fields, "projected_embeddings": self._projects, "transform_act": "gelu"}

    def adapt(self, model: Any, task: str) -> None:
        """Project the embeddings, and set the activations of heads.

        Raises ExportError for multiple choice that does not start at the first token.
        """
        base = getattr(model, "bert", model)
        if self._projects:
            base.embeddings = ProjectedEmbeddings(base.config, size=self.config.embedding_size)
        resize_transform(model, self.config.embedding_size)
        set_activation(model)
        if task == "text-classification":
            base.pooler.activation = torch.nn.GELU()
        if task == "multiple-choice":
            base.pooler.activation = _summary_activation(self.config)

    @property
    def _projects(self) -> bool:
        return bool(self.config.embedding_size != self.config.hidden_size)


def _summary_activation(config: Any) -> torch.nn.Module:
    """Return the activation of the layer that sums up a text."""
    for field, known in (("summary_type", "first"), ("summary_use_proj", True)):
        if getattr(config, field) != known:
            raise ExportError(
                f"the config's {field} is {getattr(config, field)!r}, and bertrt exports multiple "
                f"choice with {known!r} only"
            )
    name = config.summary_activation
    return torch.nn.Identity() if not name else ACT2FN[name]
