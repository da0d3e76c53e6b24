"""What a model's config and head say of its graph, for the counts of all pipelines."""

from dataclasses import dataclass
from typing import Any

from bertrt.export.heads import TRANSFORM_TASKS, HeadSpec
from bertrt.export.vector_modules import VectorModules

__all__ = ["Structure", "structure_of"]


@dataclass(frozen=True)
class Structure:
    """The parts of a model whose numbers decide how many operators its graph has.

    Attributes:
        layers: the encoder's layers, each with two LayerNorms.
        projections: the linear layers between the embeddings and the first layer.
        activations: transformers' names of the activations within the layers, and before the
            vocabulary.
        later_norms: the LayerNorms after the encoder.
        biased_masks: the masks that have a bias of attention by distance; one for all layers.
    """

    layers: int
    projections: int
    activations: tuple[str, ...]
    later_norms: int
    biased_masks: int


def structure_of(config: Any, head: HeadSpec, vectors: VectorModules | None = None) -> Structure:
    """Return the structure of a head's model.

    Args:
        config: the model's config, in BERT's terms. `projected_embeddings`, `transform_act` and
            `relative_attention_bias` are of encoders that differ from BERT in them.
        head: the head.
        vectors: what makes a text's vector of its hidden states; None for other heads.
    """
    layers = int(config.num_hidden_layers)
    transforms = int(head.task in TRANSFORM_TASKS)
    transform_act = getattr(config, "transform_act", config.hidden_act)
    return Structure(
        layers=layers,
        projections=int(getattr(config, "projected_embeddings", False)),
        activations=(config.hidden_act,) * layers + (transform_act,) * transforms,
        later_norms=transforms + (0 if vectors is None else vectors.names.count("LayerNorm")),
        biased_masks=int(getattr(config, "relative_attention_bias", False)),
    )
