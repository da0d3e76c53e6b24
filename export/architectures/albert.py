"""ALBERT: BERT whose layers share their weights, with projected embeddings and other names.

Source: transformers/models/albert/modeling_albert.py.
"""

import re
from typing import Any, ClassVar

from bertrt.export.architectures.architecture import ENCODER_TASKS, Architecture
from bertrt.export.architectures.embeddings import ProjectedEmbeddings
from bertrt.export.architectures.language_model import resize_transform

__all__ = ["Albert"]

_SHARED = re.compile(r"albert\.encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.")
_IN_LAYER = (
    ("attention.query.", "attention.self.query."),
    ("attention.key.", "attention.self.key."),
    ("attention.value.", "attention.self.value."),
    ("attention.dense.", "attention.output.dense."),
    ("attention.LayerNorm.", "attention.output.LayerNorm."),
    ("ffn.", "intermediate.dense."),
    ("ffn_output.", "output.dense."),
    ("full_layer_layer_norm.", "output.LayerNorm."),
)


class Albert(Architecture):
    """Each layer of BERT gets the weights of the one that it shares; they are stored once again.

    A group of layers is run `num_hidden_layers / num_hidden_groups` times.
    """

    classes: ClassVar = {"albert": "Albert"}
    base = "albert"
    tasks = ENCODER_TASKS
    layer_count = "num_hidden_groups"
    names = (
        ("albert.encoder.embedding_hidden_mapping_in.", "bert.embeddings.projection."),
        ("albert.pooler.", "bert.pooler.dense."),
        ("albert.", "bert."),
        ("predictions.dense.", "cls.predictions.transform.dense."),
        ("predictions.LayerNorm.", "cls.predictions.transform.LayerNorm."),
        ("predictions.", "cls.predictions."),
        ("sop_classifier.", None),
    )

    def bert_names(self, name: str, task: str) -> tuple[str, ...]:
        """Return BERT's names of a weight: those of every layer that has it."""
        found = _SHARED.match(name)
        if found is None:
            return super().bert_names(name, task)
        group, inner = (int(number) for number in found.groups())
        own = name[found.end() :]
        rest = next((bert + own[len(key) :] for key, bert in _IN_LAYER if own.startswith(key)), own)
        # In floating point, as transformers does: sizes that do not divide round differently.
        turns_of_a_group = self.config.num_hidden_layers / self.config.num_hidden_groups
        layers = [
            turn * self.config.inner_group_num + inner
            for turn in range(self.config.num_hidden_layers)
            if int(turn / turns_of_a_group) == group
        ]
        if not layers or inner >= self.config.inner_group_num:
            return super().bert_names(name, task)
        return tuple(f"bert.encoder.layer.{layer}.{rest}" for layer in layers)

    def bert_fields(self) -> dict[str, Any]:
        """Return the fields of a BertConfig, with all layers of a group."""
        layers = self.config.num_hidden_layers * self.config.inner_group_num
        return {
            **super().bert_fields(),
            "num_hidden_layers": layers,
            "projected_embeddings": True,
        }

    def adapt(self, model: Any, task: str) -> None:
        """Project the embeddings, in any case."""
        base = getattr(model, "bert", model)
        base.embeddings = ProjectedEmbeddings(base.config, size=self.config.embedding_size)
        resize_transform(model, self.config.embedding_size)
