"""Build a BERT with a checkpoint's weights, and no others."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BertConfig

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.config_check import read_architecture
from bertrt.export.checkpoints.empty_model import empty_model, fill_buffers
from bertrt.export.checkpoints.labels import with_agreeing_labels
from bertrt.export.checkpoints.reference_model import own_names
from bertrt.export.checkpoints.weight_matching import BODY, head_form, match
from bertrt.export.heads import HeadSpec, class_of

__all__ = ["build_model"]

_DECODER = "cls.predictions.decoder"
_WORDS = "bert.embeddings.word_embeddings.weight"
_TIED = {f"{_DECODER}.weight": _WORDS, f"{_DECODER}.bias": "cls.predictions.bias"}

# The heads with a row of weights for each label.
_LABELED = ("BertForSequenceClassification", "BertForTokenClassification")
# Three heads whose weights have the same names and different meanings.
_CLASSIFIERS = (
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForMultipleChoice",
)

_log = logging.getLogger(__name__)


def build_model(
    head: HeadSpec, checkpoint: Checkpoint, *, allow_new_head: bool = False
) -> torch.nn.Module:
    """Build the head's model: float32, eval mode, eager attention, with the checkpoint's weights.

    It is BERT's class of the head; for another encoder, with the parts replaced that differ. A
    BertModel whose checkpoint has no pooler is built without one. The language model's decoder
    shares the word embeddings if the config ties them, unless the checkpoint holds different ones,
    as in transformers 5; then the model's config says that they are not tied.

    Args:
        head: the head.
        checkpoint: the checkpoint.
        allow_new_head: initialize weights outside embeddings and encoder that the checkpoint lacks,
            from a fixed seed and with a logged warning.

    Raises ExportError with the missing weights, or the size in which the config contradicts the
    weights.
    """
    architecture = checkpoint.architecture
    own = head_form(checkpoint.weights, architecture)
    weights, stored = _rename(own, checkpoint.stored, architecture, head)
    weights = _own_weights(head, checkpoint.config, weights, architecture)
    architecture = read_architecture(with_agreeing_labels(checkpoint.config, _rows(head, weights)))
    config = _bert_config(architecture)
    _check_question_labels(head, config, weights, allow_new_head)
    pooler = None
    if head.class_name == "BertModel":
        pooler = any(name.startswith("bert.pooler.") for name in weights)
    model = empty_model(head.class_name, config, pooler=pooler)
    with torch.device("meta"):
        architecture.adapt(model, head.task)
    config = model.config
    config.architectures = [head.class_name]

    # Names as in heads; these are the model's own unless it is a bare BertModel.
    prefix = "bert." if head.class_name == "BertModel" else ""
    expected = {prefix + name: value.shape for name, value in model.state_dict().items()}
    tied = _tie(weights, expected, config)
    matched = match(expected, weights, architecture, stored)
    found = matched.found
    if matched.missing:
        own_files = {
            bert: checkpoint.stored.get(name, name)
            for bert, name in own_names(head, architecture).items()
        }
        named = own_files | stored
        class_name = architecture.class_name(head.class_name)
        _check_missing(matched.missing, class_name, named, allow_new_head)
        found |= _new_weights(matched.missing, expected, config)
        # Again: a new bias is shared by the decoder too.
        tied = _tie(found, expected, config)

    # Once for each weight: layers may share it.
    converted = {id(value): _float32(value) for value in found.values()}
    state = {name.removeprefix(prefix): converted[id(value)] for name, value in found.items()}
    model.load_state_dict(state, strict=True, assign=True)
    for name in tied:
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, model.get_parameter(_TIED[name]))
    fill_buffers(model)
    return model.eval()


def _rename(
    weights: Mapping[str, torch.Tensor],
    stored: Mapping[str, str],
    architecture: Architecture,
    head: HeadSpec,
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return weights by BERT's names, and the name of each in the file where it differs.

    Raises ExportError if two weights get the same name.
    """
    renamed: dict[str, torch.Tensor] = {}
    files = dict(stored) if architecture.base == "bert" else {}
    for own, tensor in weights.items():
        for name in architecture.bert_names(own, head.task):
            file = stored.get(own, own)
            if name in renamed:
                raise ExportError(
                    f"the checkpoint has {files.get(name, name)!r} and {file!r}, which are the "
                    "same weight: save it again with one of them"
                )
            renamed[name] = tensor
            if file != name:
                files[name] = file
    return {**renamed, **architecture.constants()}, files


def _own_weights(
    head: HeadSpec,
    config: Mapping[str, Any],
    weights: dict[str, torch.Tensor],
    architecture: Architecture,
) -> dict[str, torch.Tensor]:
    """Return the weights without a classifier that was trained for another head."""
    trained = architecture.bert_class(class_of((config.get("architectures") or [None])[0]))
    if {trained, head.class_name} <= set(_CLASSIFIERS) and trained != head.class_name:
        return {k: v for k, v in weights.items() if not k.startswith("classifier.")}
    return dict(weights)


def _bert_config(architecture: Architecture) -> Any:
    """Return the config of BERT's class; for BERT, the checkpoint's own."""
    if architecture.base == "bert":
        return architecture.config
    return BertConfig(**architecture.bert_fields(), attn_implementation="eager")


def _rows(head: HeadSpec, weights: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of rows of a classifier that has one for each label; None without one."""
    if head.class_name in _LABELED and "classifier.weight" in weights:
        return len(weights["classifier.weight"])
    return None


def _check_question_labels(
    head: HeadSpec, config: BertConfig, weights: Mapping[str, Any], allow_new_head: bool
) -> None:
    """Raise ExportError if question answering has other labels than start and end.

    If its weights are missing, that is the better explanation.
    """
    if head.class_name != "BertForQuestionAnswering" or config.num_labels == 2:
        return
    if allow_new_head or "qa_outputs.weight" in weights:
        raise ExportError(
            f"the config has {config.num_labels} labels, and question answering needs 2 (start and "
            "end): correct its id2label"
        )


def _tie(
    weights: dict[str, torch.Tensor], expected: Mapping[str, torch.Size], config: BertConfig
) -> list[str]:
    """Add the decoder's weights that are stored under another name to `weights`, in place.

    The bias is one parameter with two names even if the embeddings are not tied, and a file may
    have either name. Returns the names of the decoder's weights that are shared.
    """
    shared = []
    for name, source in _TIED.items():
        if name not in expected:
            continue
        embeddings = source == _WORDS
        if not embeddings and source not in weights and name in weights:
            weights[source] = weights[name]
        if embeddings and not config.tie_word_embeddings:
            continue
        if source not in weights:
            continue
        if name not in weights:
            weights[name] = weights[source]
        if torch.equal(_float32(weights[name]), _float32(weights[source])):
            shared.append(name)
        elif embeddings:
            _log.warning("%s differs from the word embeddings, so they are not tied", name)
            config.tie_word_embeddings = False
    return shared


def _check_missing(
    missing: Sequence[str], class_name: str, stored: Mapping[str, str], allow_new_head: bool
) -> None:
    body = [name for name in missing if name.startswith(BODY)]
    # Layers may share a weight.
    names = list(dict.fromkeys(stored.get(name, name) for name in body or missing))
    listed, count = ", ".join(names[:4]), len(names)
    more = f" and {count - 4} more" if count > 4 else ""
    if body:
        raise ExportError(
            f"the checkpoint lacks {count} weights of its embeddings and encoder ({listed}{more}): "
            "it is incomplete, or of another model type"
        )
    if not allow_new_head:
        raise ExportError(
            f"the checkpoint lacks {count} weights of {class_name} ({listed}{more}): choose "
            "another --task, or pass --allow-new-head for untrained ones"
        )
    _log.warning("%d weights of %s are new and untrained: %s", count, class_name, listed + more)


def _new_weights(
    names: Sequence[str], expected: Mapping[str, torch.Size], config: BertConfig
) -> dict[str, torch.Tensor]:
    """Initialize weights as BERT does, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    new: dict[str, torch.Tensor] = {}
    for name in names:
        if name.endswith("bias"):
            new[name] = torch.zeros(expected[name])
        elif name.endswith("LayerNorm.weight"):
            new[name] = torch.ones(expected[name])
        else:
            scale = config.initializer_range
            new[name] = torch.randn(expected[name], generator=generator) * scale
    return new


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32).contiguous()
