"""MPNet: RoBERTa's positions, no token types, and a bias of attention by distance.

Source: transformers/models/mpnet/modeling_mpnet.py.
"""

from typing import Any, ClassVar

import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import ENCODER_TASKS, Architecture
from bertrt.export.architectures.embeddings import CountedPositions
from bertrt.export.architectures.language_model import set_activation
from bertrt.export.architectures.roberta import LANGUAGE_MODEL, SENTENCE

__all__ = ["MPNet", "RelativeAttentionBias"]

_LAYER, _BERT_LAYER = "mpnet.encoder.layer.*.attention.", "bert.encoder.layer.*.attention."
# transformers' MPNet has this padding id whatever the config says.
_PADDING = 1
# So has it this number of buckets, in which all distances from this one on are in the last.
_BUCKETS, _FARTHEST = 32, 128


class MPNet(Architecture):
    """The bias is added to the scores of every layer."""

    classes: ClassVar = {"mpnet": "MPNet"}
    base = "mpnet"
    tasks = ENCODER_TASKS
    has_token_types = False
    names = (
        (f"{_LAYER}attn.q.", f"{_BERT_LAYER}self.query."),
        (f"{_LAYER}attn.k.", f"{_BERT_LAYER}self.key."),
        (f"{_LAYER}attn.v.", f"{_BERT_LAYER}self.value."),
        (f"{_LAYER}attn.o.", f"{_BERT_LAYER}output.dense."),
        (f"{_LAYER}LayerNorm.", f"{_BERT_LAYER}output.LayerNorm."),
        ("mpnet.", "bert."),
        *LANGUAGE_MODEL,
    )
    names_in_head: ClassVar = {"text-classification": (("mpnet.pooler.", None), *SENTENCE)}

    def bert_fields(self) -> dict[str, Any]:
        """Return the fields of a BertConfig, with the number of positions that a text may have.

        The activation of the language model's head is GELU in any case.
        """
        fields = super().bert_fields()
        positions = fields["max_position_embeddings"] - _PADDING - 1
        return {
            **fields,
            "max_position_embeddings": positions,
            "uncounted_token_id": _PADDING,
            "transform_act": "gelu",
            "relative_attention_bias": True,
        }

    def adapt(self, model: Any, task: str) -> None:
        """Count positions by tokens, and add the bias.

        Raises ExportError for fewer buckets than transformers puts distances in.
        """
        buckets = self.config.relative_attention_num_buckets
        if buckets < _BUCKETS:
            raise ExportError(
                f"relative_attention_num_buckets is {buckets}, and MPNet puts distances in "
                f"{_BUCKETS}: correct the config"
            )
        base = getattr(model, "bert", model)
        base.embeddings = CountedPositions(base.config, padding_id=_PADDING)
        heads = self.config.num_attention_heads
        base.encoder.relative_attention_bias = RelativeAttentionBias(buckets, heads)
        set_activation(model)


class RelativeAttentionBias(torch.nn.Embedding):
    """A bias for each head and each bucket of distances between two tokens' places.

    The bucket of a distance is a constant, so a graph holds the bias of each distance: no place is
    too far, and no logarithm is left to compute.
    """

    def __init__(self, buckets: int, heads: int) -> None:
        """Make a table [buckets, heads]."""
        super().__init__(buckets, heads)
        with torch.device("cpu"):
            distances = torch.arange(-_FARTHEST, _FARTHEST + 1)
            self.register_buffer(
                "buckets",
                MPNetEncoder.relative_position_bucket(distances, _BUCKETS, _FARTHEST),
                persistent=False,
            )

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return the bias [1, N, S, T] for queries at places int64 [S] and keys at [T]."""
        by_distance = super().forward(self.buckets)
        distances = (keys + _FARTHEST).unsqueeze(0) - queries.unsqueeze(1)
        index = distances.clamp(0, 2 * _FARTHEST)
        bias = torch.nn.functional.embedding(index, by_distance).permute(2, 0, 1).unsqueeze(0)
        # With a gradient, PyTorch's attention would be traced as another operator than it then is.
        return bias.detach()
