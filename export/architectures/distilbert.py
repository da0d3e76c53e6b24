"""DistilBERT: BERT without token types and pooler, with other names.

Source: transformers/models/distilbert/modeling_distilbert.py.
"""

from typing import Any, ClassVar

import torch

from bertrt.export.architectures.architecture import ENCODER_TASKS, Architecture, Names

__all__ = ["DistilBert"]

_LAYER, _BERT_LAYER = "distilbert.transformer.layer.*.", "bert.encoder.layer.*."
_SENTENCE: Names = (("pre_classifier.", "bert.pooler.dense."),)


class DistilBert(Architecture):
    """The layer before the classifier is BERT's pooler with ReLU."""

    classes: ClassVar = {"distilbert": "DistilBert"}
    base = "distilbert"
    parts = ("embeddings.", "transformer.")
    tasks = ENCODER_TASKS
    has_token_types = False
    has_pooler = False
    names = (
        (f"{_LAYER}attention.q_lin.", f"{_BERT_LAYER}attention.self.query."),
        (f"{_LAYER}attention.k_lin.", f"{_BERT_LAYER}attention.self.key."),
        (f"{_LAYER}attention.v_lin.", f"{_BERT_LAYER}attention.self.value."),
        (f"{_LAYER}attention.out_lin.", f"{_BERT_LAYER}attention.output.dense."),
        (f"{_LAYER}sa_layer_norm.", f"{_BERT_LAYER}attention.output.LayerNorm."),
        (f"{_LAYER}ffn.lin1.", f"{_BERT_LAYER}intermediate.dense."),
        (f"{_LAYER}ffn.lin2.", f"{_BERT_LAYER}output.dense."),
        (f"{_LAYER}output_layer_norm.", f"{_BERT_LAYER}output.LayerNorm."),
        ("distilbert.", "bert."),
        ("vocab_transform.", "cls.predictions.transform.dense."),
        ("vocab_layer_norm.", "cls.predictions.transform.LayerNorm."),
        ("vocab_projector.bias", "cls.predictions.bias"),
        ("vocab_projector.", "cls.predictions.decoder."),
        ("pre_classifier.", None),
    )
    names_in_head: ClassVar = {"text-classification": _SENTENCE, "multiple-choice": _SENTENCE}
    fields: ClassVar = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    }
    layer_count = "n_layers"

    def bert_fields(self) -> dict[str, Any]:
        """Return the fields of a BertConfig, with DistilBERT's constant epsilon."""
        return {**super().bert_fields(), "layer_norm_eps": 1e-12}

    def adapt(self, model: Any, task: str) -> None:
        """Make the pooler's activation ReLU."""
        if task in self.names_in_head:
            model.bert.pooler.activation = torch.nn.ReLU()
