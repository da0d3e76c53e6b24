"""The fields of a checkpoint's config.json that the runtime uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertrt.errors import ArtifactError

__all__ = ["ModelConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, labels and the problem type of a BERT."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int
    is_decoder: bool
    problem_type: str | None
    labels: tuple[str, ...]
    label2id: Mapping[str, int]
    eos_token_ids: tuple[int, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelConfig":
        """Read a parsed config.json; missing fields get BertConfig's defaults.

        Raises ArtifactError for a field of the wrong type.
        """
        try:
            labels = _labels(data)
            eos = data.get("eos_token_id")
            return cls(
                vocab_size=int(data.get("vocab_size", 30522)),
                hidden_size=int(data.get("hidden_size", 768)),
                num_hidden_layers=int(data.get("num_hidden_layers", 12)),
                num_attention_heads=int(data.get("num_attention_heads", 12)),
                max_position_embeddings=int(data.get("max_position_embeddings", 512)),
                type_vocab_size=int(data.get("type_vocab_size", 2)),
                is_decoder=bool(data.get("is_decoder", False)),
                problem_type=data.get("problem_type"),
                labels=labels,
                label2id=dict(data.get("label2id") or {name: i for i, name in enumerate(labels)}),
                eos_token_ids=()
                if eos is None
                else tuple(eos)
                if isinstance(eos, list)
                else (eos,),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"config.json is damaged: {error}") from error


def _labels(data: Mapping[str, Any]) -> tuple[str, ...]:
    names = data.get("id2label")
    if names is None:
        count = int(data.get("num_labels", 2))
        return tuple(f"LABEL_{i}" for i in range(count))
    by_id = {int(key): str(name) for key, name in names.items()}
    return tuple(by_id.get(i, f"LABEL_{i}") for i in range(max(by_id, default=-1) + 1))
