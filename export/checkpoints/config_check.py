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

# Further sizes, by model type.
_OTHER_SIZES = {
    "electra": ("embedding_size",),
    "mpnet": ("relative_attention_num_buckets",),
    "albert": ("embedding_size", "num_hidden_groups", "inner_group_num"),
}
# No matrix of two such sizes has more bytes than an int64 can count.
_LARGEST = 2**30

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
    `ARCHITECTURES`. A config without `model_type` is of the encoder that its architectures are of
    or, without these, BERT's if it has all of BERT's fields. The sizes that it gives must be valid.
    """
    _check_model_type(config)
    model_type = _model_type(config)
    own = ARCHITECTURES[model_type].fields
    for field, plain in _PLAIN.items():
        if config.get(field) not in plain:
            raise ExportError(
                f"the config's {field} is {config[field]!r}, which bertrt does not export: it "
                "exports encoders with absolute positions and plain self-attention"
            )
    sizes = [own.get(size, size) for size in _SIZES]
    for field in (*sizes, "num_labels", *_OTHER_SIZES.get(model_type, ())):
        size = config.get(field, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST:
            raise ExportError(
                f"the config's {field} is {size!r}: it must be a positive integer of at most "
                f"{_LARGEST}"
            )
    padding, words = config.get("pad_token_id"), config.get("vocab_size")
    if isinstance(padding, int) and words is not None and not -words <= padding < words:
        raise ExportError(
            f"the config's pad_token_id is {padding}, which is not an id of its vocabulary of "
            f"{words} tokens (vocab_size)"
        )
    split = [own.get(field, field) for field in ("hidden_size", "num_attention_heads")]
    hidden, heads = (config.get(field) for field in split)
    if hidden is not None and heads is not None and hidden % heads:
        raise ExportError(
            f"the config's {split[0]} {hidden} is not divisible by its {split[1]} {heads}"
        )
    field = own.get("hidden_act", "hidden_act")
    activation = config.get(field, "gelu")
    if activation not in ACT2FN:
        raise ExportError(f"the config's {field} is {activation!r}, which transformers lacks")


def _check_model_type(config: Mapping[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise ExportError(f"the config's architectures are {architectures!r}: it must be a list")
    given, model_type = config.get("model_type"), _model_type(config)
    if model_type not in ARCHITECTURES:
        raise ExportError(
            f"the config's model_type is {model_type!r}: bertrt exports {', '.join(ARCHITECTURES)}"
        )
    for name in architectures:
        # A class that transformers lacks is somebody's own, over the encoder of the model type.
        of_class = _type_of_class(name)
        is_own = of_class is None and (given is not None or class_of(name).startswith("Bert"))
        if not is_own and of_class not in ARCHITECTURES[model_type].classes:
            raise ExportError(
                f"the config's architecture is {name!r}, which is not of its model_type "
                f"{model_type!r}: correct one of them"
            )
    if given is not None or architectures or all(field in config for field in _SIZES):
        return
    missing = next(field for field in _SIZES if field not in config)
    raise ExportError(
        f"the config has no model_type and no {missing}, so it may not be BERT's: if it is, "
        'add "model_type": "bert"'
    )


def _model_type(config: Mapping[str, Any]) -> str:
    """Return a config's model type; old ones have none, but an architecture."""
    given = config.get("model_type")
    types = [given, *(_type_of_class(name) for name in config.get("architectures") or ()), "bert"]
    return next(str(found) for found in types if found is not None)


def _type_of_class(architecture: Any) -> str | None:
    """Return the model type of a config's architecture; None if transformers has no such class."""
    found = getattr(transformers, class_of(architecture), None)
    config_class = getattr(found, "config_class", None)
    return None if config_class is None else str(config_class.model_type)


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a config that `check_config` accepts.

    Its config is transformers', for a model that runs eager attention in float32. Labels, the
    problem type and `is_decoder` are kept; fields that only control how transformers runs the model
    are removed. Raises ExportError if transformers refuses a field.
    """
    model_type = _model_type(config)
    fields = {name: value for name, value in config.items() if name not in _RUN_FIELDS}
    config_class = transformers.CONFIG_MAPPING[model_type]
    try:
        own = config_class(**fields, attn_implementation="eager")
    except Exception as error:
        # What transformers 4 and 5 raise here has no common class.
        reason = " ".join(str(error).split())
        raise ExportError(f"transformers refuses the config: {reason}") from error
    return ARCHITECTURES[model_type](own)
