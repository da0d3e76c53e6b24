"""Read a ColBERT model in each of the forms that it is saved in, as sentence-transformers 6.2 does.

There are three: Stanford's checkpoint, a folder of PyLate, which is one of sentence-transformers
with settings of its own, and a folder of sentence-transformers' MultiVectorEncoder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.colbert_settings import (
    DEFAULT_LENGTH,
    PUNCTUATION,
    ColbertSettings,
    Expansion,
    read_flag,
    read_length,
)
from bertrt.export.checkpoints.module_list import MODULES_FILE, Module, read_module_list
from bertrt.export.checkpoints.reference_model import build_reference
from bertrt.export.checkpoints.sentence_transformers import (
    SETTINGS_FILE,
    read_encoder_settings,
    read_prompts,
    read_transformer_settings,
)
from bertrt.export.checkpoints.stanford_colbert import (
    ARCHITECTURE,
    LINEAR_WEIGHT,
    read_stanford_layers,
    read_stanford_settings,
)
from bertrt.export.checkpoints.vector_modules import read_dense, read_module_config
from bertrt.export.heads import HeadSpec
from bertrt.export.multi_vector_model import MultiVectorModel
from bertrt.export.vector_modules import Normalize
from bertrt.heads.maxsim import MAXSIMS

__all__ = ["build_multi_vector_models", "is_multi_vector", "read_settings"]

# The model types of the two libraries, and settings that PyLate alone writes. Its older versions
# write no model type.
_OWN, _PYLATE = "MultiVectorEncoder", "ColBERT"
_PYLATE_KEYS = (
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "attend_to_mask_tokens",
    "query_prefix",
    "document_prefix",
    "skiplist_words",
)
_LENGTHS = ("query_length", "document_length")
# What else PyLate's settings call MaxSim, the one similarity of its models.
_OTHER_NAMES = ("MaxSim", "cosine", "dot")

_TOKENS = "token_embeddings"
# What modules may read and write. PyLate's may be of a model of text vectors before, as are the
# modules that are left out: nothing reads what they give.
_NAMES = {"own": (_TOKENS,), "pylate": (_TOKENS, "sentence_embedding")}
_LEFT_OUT = ("Pooling", "Dropout")
_DENSES = ("Dense", "pylate.models.Dense.Dense")
_MASK = "MultiVectorMask"


def is_multi_vector(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is a ColBERT model; `config` is its config.json.

    Raises ExportError for damaged files.
    """
    return _form(folder, config) is not None


def read_settings(checkpoint: Checkpoint) -> ColbertSettings:
    """Return how a model takes texts.

    Raises ExportError for another model, a damaged file, and a setting that bertrt does not have.
    """
    folder = checkpoint.folder
    form = _form(folder, checkpoint.config)
    if form == "stanford":
        return read_stanford_settings(folder)
    if form is None:
        raise ExportError(
            f"the checkpoint is no multi-vector model: its architecture is not {ARCHITECTURE}, and "
            f"{SETTINGS_FILE} has no model_type {_OWN!r} or {_PYLATE!r}: choose another --task"
        )
    settings = read_encoder_settings(folder)
    transformer = read_transformer_settings(checkpoint.transformer_folder)
    if transformer.get("processing_kwargs"):
        raise ExportError(
            f"sentence-transformers' settings give processing_kwargs "
            f"{transformer['processing_kwargs']!r}, which bertrt does not have: remove it"
        )
    knobs = {**_pylate_knobs(settings), **transformer}
    query_length, document_length = (read_length(knobs, key, SETTINGS_FILE) for key in _LENGTHS)
    expansion = _expansion(knobs.get("query_expansion"))
    masks = [module for module in read_module_list(folder / MODULES_FILE) if module.kind == _MASK]
    skipped = _skipped_words(
        read_module_config(folder / mask.path / "config.json") for mask in masks
    )
    if form == "pylate":
        words = _skiplist(settings, _default_skiplist(settings))
        skipped["document"] = (*skipped.get("document", ()), *words)
    elif not masks and expansion is not None and not expansion.attend:
        # Without the module nothing reads what queries are expanded by.
        query_length = expansion.length if expansion.fixed else query_length
        expansion = None
    if expansion is not None and query_length is not None and query_length < expansion.length:
        raise ExportError(
            f"query_length is {query_length}, and query_expansion fills queries up to "
            f"{expansion.length} tokens: raise one of them in sentence_bert_config.json"
        )
    prompts, markers = _prompts(settings)
    return ColbertSettings(
        prompts=prompts,
        markers=markers,
        query_length=query_length,
        document_length=document_length,
        expansion=expansion,
        skipped_words=skipped,
        similarity=_similarity(settings),
    )


def build_multi_vector_models(
    head: HeadSpec, checkpoint: Checkpoint
) -> tuple[MultiVectorModel, MultiVectorModel]:
    """Build the model of a ColBERT checkpoint that is traced, and the one with transformers' own.

    Args:
        head: the head of its encoder.
        checkpoint: the checkpoint.

    Raises ExportError for a damaged file, missing weights, sizes that do not fit, and for a module
    or setting that bertrt does not have.
    """
    weights = {name: t for name, t in checkpoint.weights.items() if name != LINEAR_WEIGHT}
    encoder = build_model(head, replace(checkpoint, weights=weights))
    reference = build_reference(encoder, head, checkpoint.architecture)
    layers = _layers(checkpoint, encoder.config.hidden_size)
    return MultiVectorModel(encoder, *layers), MultiVectorModel(reference, *layers)


def _layers(checkpoint: Checkpoint, hidden_size: int) -> tuple[list[torch.nn.Module], int]:
    """Return the modules after the encoder, and the size of the vectors that they give."""
    folder = checkpoint.folder
    form = _form(folder, checkpoint.config) or "own"
    if form == "stanford":
        return read_stanford_layers(folder, checkpoint.weights, hidden_size)
    size, steps = hidden_size, []
    for module in read_module_list(folder / MODULES_FILE):
        if module.kind in _DENSES:
            step, size = read_dense(folder, module, size, _NAMES[form])
            steps.append(step)
        elif module.kind == "Normalize":
            steps += [Normalize()] if _is_of_tokens(folder, module) else []
        elif module.kind not in ("Transformer", _MASK, *_LEFT_OUT):
            raise ExportError(
                f"{MODULES_FILE} has a {module.kind} module, and bertrt exports a multi-vector "
                f"model as a Transformer, Dense, {_MASK} and Normalize: choose another --task"
            )
    if form == "pylate":
        if not any(module.kind in _DENSES for module in read_module_list(folder / MODULES_FILE)):
            raise ExportError(
                f"{MODULES_FILE} has no Dense module, which a PyLate model has: download it again"
            )
        steps.append(Normalize())
    return steps, size


def _form(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return "stanford", "pylate" or "own"; None for another kind of model."""
    is_stanford = ARCHITECTURE in (config.get("architectures") or ())
    if not (folder / MODULES_FILE).is_file():
        return "stanford" if is_stanford else None
    settings = read_encoder_settings(folder)
    model_type = settings.get("model_type")
    if model_type in (_OWN, _PYLATE):
        return "own" if model_type == _OWN else "pylate"
    if any(key in settings for key in _PYLATE_KEYS):
        return "pylate"
    return "own" if is_stanford and model_type is None else None


def _pylate_knobs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the transformer module that PyLate keeps beside the prompts.

    An expansion is on unless it is switched off. Its length is the query's.
    """
    knobs = {key: settings[key] for key in _LENGTHS if settings.get(key) is not None}
    if "query_expansion" in settings:
        return {**knobs, "query_expansion": settings["query_expansion"]}
    marked = any(key in settings for key in (*_PYLATE_KEYS, *_LENGTHS))
    if not marked or not read_flag(settings, "do_query_expansion", SETTINGS_FILE, default=True):
        return knobs
    attends = ("attend_to_expansion_tokens", "attend_to_mask_tokens")
    attend = next((key for key in attends if key in settings), attends[0])
    length = read_length(knobs, "query_length", SETTINGS_FILE) or DEFAULT_LENGTH
    knobs.pop("query_length", None)
    knobs["query_expansion"] = {
        "strategy": "fixed",
        "attend": read_flag(settings, attend, SETTINGS_FILE, default=False),
        "length": length,
    }
    return knobs


def _expansion(value: Any) -> Expansion | None:
    """Read what queries are expanded by, a dict of sentence-transformers or None."""
    if value is None:
        return None
    where = "query_expansion"
    if not isinstance(value, dict) or not set(value) <= {"strategy", "attend", "token", "length"}:
        raise ExportError(f"{where} is {value!r}: it must give strategy, attend, token and length")
    strategy, token = value.get("strategy"), value.get("token")
    if strategy not in ("fixed", "min"):
        raise ExportError(f"strategy in {where} is {strategy!r}: bertrt has 'fixed' and 'min'")
    length = read_length(value, "length", where)
    if length is None or not isinstance(token, (str, type(None))):
        raise ExportError(f"{where} is {value!r}: its length must be a number, its token a string")
    attend = read_flag(value, "attend", where, default=False)
    return Expansion(length, strategy == "fixed", attend, token)


def _skipped_words(masks: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the words without a vector by the kind of text, from the configs of the modules."""
    skipped: dict[str, tuple[str, ...]] = {}
    for config in masks:
        if config.get("keep_only_token_ids"):
            raise ExportError(
                f"the {_MASK} has keep_only_token_ids, which bertrt does not have: it is for images"
            )
        tasks = config.get("skiplist_tasks") or ["document"]
        tasks = [tasks] if isinstance(tasks, str) else tasks
        if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
            raise ExportError(
                f"skiplist_tasks of the {_MASK} are {tasks!r}: it must be a list of kinds of text, "
                "such as 'document'"
            )
        for task in tasks:
            skipped[task] = (*skipped.get(task, ()), *_skiplist(config, ()))
    return skipped


def _skiplist(config: Mapping[str, Any], default: tuple[str, ...]) -> tuple[str, ...]:
    words = config.get("skiplist_words")
    if words is None:
        return default
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ExportError(f"skiplist_words are {words!r}: it must be a list of tokens")
    return tuple(words)


def _default_skiplist(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words that PyLate leaves out if its settings name none.

    sentence-transformers takes a folder without a model type for PyLate's by its prefixes only.
    """
    prefixes = ("query_prefix", "document_prefix")
    named = settings.get("model_type") == _PYLATE or any(key in settings for key in prefixes)
    return PUNCTUATION if named else ()


def _prompts(settings: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the prompts by name, and those that begin with a token of their own."""
    prompts = {"query": "", "document": "", **read_prompts(settings)}
    markers = []
    for kind in ("query", "document"):
        prefix = settings.get(f"{kind}_prefix")
        if not isinstance(prefix, (str, type(None))):
            raise ExportError(f"{kind}_prefix in {SETTINGS_FILE} is {prefix!r}: give a string")
        if prefix:
            markers.append(prefix)
            prompts[kind] = prefix + prompts[kind].removeprefix(prefix)
    return prompts, tuple(markers)


def _similarity(settings: Mapping[str, Any]) -> str:
    name = settings.get("similarity_fn_name")
    if name in MAXSIMS:
        return str(name)
    if name not in (None, *_OTHER_NAMES):
        raise ExportError(
            f"similarity_fn_name in {SETTINGS_FILE} is {name!r}: for a multi-vector model bertrt "
            f"has {' and '.join(MAXSIMS)}"
        )
    return "maxsim"


def _is_of_tokens(folder: Path, module: Module) -> bool:
    """Whether a Normalize scales vectors of tokens; older versions save it without a file."""
    where = folder / module.path / "config.json"
    config = read_module_config(where) if where.is_file() else {}
    return config.get("module_input_name") == _TOKENS
