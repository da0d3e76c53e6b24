"""Check by its config.json that a checkpoint is an encoder that bertrt exports."""

from collections.abc import Mapping
from typing import Any

import transformers
from transformers.activations import ACT2FN

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import Architecture
from bertrt.export.architectures.registry import ARCHITECTURES
from bertrt.export.heads import class_of

__all__ = ["check_config", "read_architecture"]

# Sizes that every BERT has. A config without a model type is a BERT's if it gives them all.
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)

# Fields that change the graph, and the values that leave it BERT's encoder.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "add_cross_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "pruned_heads": (None, {}, []),
    "quantization_config": (None, {}),
}

# Fields that control how transformers runs a model, and change no answer.
_RUN_FIELDS = (
    "auto_map",
    "attn_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "gradient_checkpointing",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torch_dtype",
    "torchscript",
    "transformers_version",
)


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ExportError unless a parsed config.json is that of an encoder with plain attention.

    Architectures that transformers does not know are accepted if the `model_type` is one of
    `ARCHITECTURES`. A config without `model_type` is accepted if its architectures or, without
    these, its fields are BERT's. The sizes that it gives must be valid.
    """
    _check_model_type(config)
    own = ARCHITECTURES[config.get("model_type", "bert")].fields
    for field, plain in _PLAIN.items():
        if config.get(field) not in plain:
            raise ExportError(
                f"the config's {field} is {config[field]!r}, which bertrt does not export: it "
                "exports encoders with absolute positions and plain self-attention"
            )
    for field in (*(own.get(size, size) for size in _SIZES), "num_labels"):
        size = config.get(field, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ExportError(f"the config's {field} is {size!r}: it must be a positive integer")
    sizes = [own.get(field, field) for field in ("hidden_size", "num_attention_heads")]
    hidden, heads = (config.get(field) for field in sizes)
    if hidden is not None and heads is not None and hidden % heads:
        raise ExportError(
            f"the config's {sizes[0]} {hidden} is not divisible by its {sizes[1]} {heads}"
        )
    field = own.get("hidden_act", "hidden_act")
    activation = config.get(field, "gelu")
    if activation not in ACT2FN:
        raise ExportError(f"the config's {field} is {activation!r}, which transformers lacks")


def _check_model_type(config: Mapping[str, Any]) -> None:
    model_type, architectures = config.get("model_type"), config.get("architectures") or []
    if not isinstance(architectures, list):
        raise ExportError(f"the config's architectures are {architectures!r}: it must be a list")
    if model_type is not None and model_type not in ARCHITECTURES:
        raise ExportError(
            f"the config's model_type is {model_type!r}: bertrt exports {', '.join(ARCHITECTURES)}"
        )
    for name in architectures:
        class_name = class_of(name)
        if _is_foreign(class_name, model_type or "bert") or (
            model_type is None and not class_name.startswith("Bert")
        ):
            raise ExportError(
                f"the config's architecture is {name!r}, which is not of its model_type "
                f"{model_type or 'bert'!r}: correct one of them"
            )
    if model_type is not None or architectures or all(field in config for field in _SIZES):
        return
    missing = next(field for field in _SIZES if field not in config)
    raise ExportError(
        f"the config has no model_type and no {missing}, so it may not be BERT's: if it is, "
        'add "model_type": "bert"'
    )


def _is_foreign(class_name: str, model_type: str) -> bool:
    """Whether transformers has a class of that name for another encoder than the model type's.

    A class that it lacks is somebody's own, over the encoder that the model type says.
    """
    config_class = getattr(getattr(transformers, class_name, None), "config_class", None)
    own = ARCHITECTURES[model_type].classes
    return config_class is not None and config_class.model_type not in own


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a config that `check_config` accepts.

    Its config is transformers', for a model that runs eager attention in float32. Labels, the
    problem type and `is_decoder` are kept; fields that only control how transformers runs the model
    are removed. Raises ExportError if transformers refuses a field.
    """
    model_type = config.get("model_type", "bert")
    fields = {name: value for name, value in config.items() if name not in _RUN_FIELDS}
    config_class = transformers.CONFIG_MAPPING[model_type]
    try:
        own = config_class(**fields, attn_implementation="eager")
    except Exception as error:
        # What transformers 4 and 5 raise here has no common class.
        reason = " ".join(str(error).split())
        raise ExportError(f"transformers refuses the config: {reason}") from error
    return ARCHITECTURES[model_type](own)
