"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT with other names, and positions counted by tokens.

Source: transformers/models/roberta/modeling_roberta.py; the others are copies of it.
"""

from typing import Any, ClassVar

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import ENCODER_TASKS, Architecture, Names
from bertrt.export.architectures.embeddings import CountedPositions
from bertrt.export.architectures.language_model import set_activation

__all__ = ["LANGUAGE_MODEL", "SENTENCE", "Roberta"]

# The language model's head, and that of sentences: a layer with tanh on the first token, like
# BERT's pooler, and the classifier. The encoder's own pooler is in old files, and nothing reads it.
LANGUAGE_MODEL: Names = (
    ("lm_head.dense.", "cls.predictions.transform.dense."),
    ("lm_head.layer_norm.", "cls.predictions.transform.LayerNorm."),
    ("lm_head.", "cls.predictions."),
)
SENTENCE: Names = (
    ("classifier.dense.", "bert.pooler.dense."),
    ("classifier.out_proj.", "classifier."),
    ("classifier.", None),
)


class Roberta(Architecture):
    """A position is the number of tokens up to it that are not padding, plus the padding id."""

    classes: ClassVar = {
        "roberta": "Roberta",
        "xlm-roberta": "XLMRoberta",
        "camembert": "Camembert",
    }
    base = "roberta"
    tasks = ENCODER_TASKS | {"text-generation"}
    names = (("roberta.", "bert."), *LANGUAGE_MODEL)
    names_in_head: ClassVar = {"text-classification": (("roberta.pooler.", None), *SENTENCE)}

    def bert_fields(self) -> dict[str, Any]:
        """Return the fields of a BertConfig, with the number of positions that a text may have.

        The activation of the language model's head is GELU in any case. Raises ExportError for a
        padding id that leaves no position.
        """
        fields = super().bert_fields()
        rows, padding = fields["max_position_embeddings"], self.config.pad_token_id
        if padding is None or rows - padding - 1 < 1:
            raise ExportError(
                f"the config's pad_token_id is {padding!r}, and positions are the "
                f"{rows} rows (max_position_embeddings) after it: give the padding token's id, "
                "which is 1 in most models of this type"
            )
        return {
            **fields,
            "max_position_embeddings": rows - padding - 1,
            "uncounted_token_id": padding,
            "transform_act": "gelu",
        }

    def adapt(self, model: Any, task: str) -> None:
        """Count positions by tokens, and set the activation of the language model's head."""
        base = getattr(model, "bert", model)
        base.embeddings = CountedPositions(base.config, padding_id=self.config.pad_token_id)
        set_activation(model)
