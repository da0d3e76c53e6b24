"""The fields of a model's config that the runtime uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertrt.artifact.labels import read_labels
from bertrt.errors import ArtifactError

__all__ = ["ModelConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, labels and the problem type of a BERT, or of another encoder in BERT's terms.

    `max_position_embeddings` is the number of tokens that a text may have. `uncounted_token_id` is
    the padding token of an encoder that counts positions by the other tokens; None where a token's
    position is its place.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    uncounted_token_id: int | None
    type_vocab_size: int
    is_decoder: bool
    problem_type: str | None
    labels: tuple[str, ...]
    eos_token_ids: tuple[int, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ModelConfig":
        """Read it from the manifest."""
        lists = {name: tuple(data[name]) for name in ("labels", "eos_token_ids")}
        return cls(**{**data, **lists})

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "config.json") -> "ModelConfig":
        """Read a BERT's parsed config.json; missing fields get BertConfig's defaults.

        `where` is the file's path, for errors.

        Raises ArtifactError for a field of the wrong type.
        """
        try:
            eos = data.get("eos_token_id")
            return cls(
                vocab_size=int(data.get("vocab_size", 30522)),
                hidden_size=int(data.get("hidden_size", 768)),
                num_hidden_layers=int(data.get("num_hidden_layers", 12)),
                num_attention_heads=int(data.get("num_attention_heads", 12)),
                max_position_embeddings=int(data.get("max_position_embeddings", 512)),
                uncounted_token_id=data.get("uncounted_token_id"),
                type_vocab_size=int(data.get("type_vocab_size", 2)),
                is_decoder=bool(data.get("is_decoder", False)),
                problem_type=data.get("problem_type"),
                labels=read_labels(data),
                eos_token_ids=()
                if eos is None
                else tuple(eos)
                if isinstance(eos, list)
                else (eos,),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{where} is damaged: {error}") from error
