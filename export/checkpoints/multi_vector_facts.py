"""Resolve how a ColBERT model takes texts to numbers: limits in tokens, and token ids."""

import logging

from bertrt.artifact.manifest import MultiVectorFacts, QueryExpansion
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.colbert_settings import ColbertSettings, Expansion
from bertrt.export.checkpoints.module_list import MODULES_FILE
from bertrt.export.checkpoints.sentence_transformers import (
    check_case,
    read_max_seq_length,
    read_transformer_settings,
)
from bertrt.export.multi_vector_model import MultiVectorModel
from bertrt.tokenizer import Tokenizer

__all__ = ["resolve_facts"]

_KINDS = ("query", "document")

_log = logging.getLogger(__name__)


def resolve_facts(
    settings: ColbertSettings,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    model: MultiVectorModel,
) -> MultiVectorFacts:
    """Return how a model makes its vectors.

    As in sentence-transformers, the limit of a kind of text counts more than the tokenizer's own.

    Args:
        settings: how the model takes texts.
        checkpoint: the checkpoint; the max_seq_length of its transformer module is the limit of
            texts that have no other.
        tokenizer: the tokenizer of the artifact.
        model: the model.

    Raises ExportError for a limit that the model cannot read, and for a token that it lacks.
    """
    positions = model.config.max_position_embeddings
    own = tokenizer.max_length
    if (checkpoint.folder / MODULES_FILE).is_file():
        check_case(read_transformer_settings(checkpoint.transformer_folder), tokenizer)
        own = min(read_max_seq_length(checkpoint.transformer_folder) or own, positions)
    expansion = settings.expansion
    if expansion is not None and expansion.length > positions:
        raise ExportError(
            f"queries are filled up to {expansion.length} tokens, and the model has {positions} "
            "positions: they are from different checkpoints"
        )
    query_length = min(settings.query_length or own, positions)
    if expansion is not None and expansion.fixed:
        query_length = expansion.length
    return MultiVectorFacts(
        max_length=min(settings.document_length or own, positions),
        truncation=True,
        prompts=settings.prompts,
        default_prompt_name=None,
        similarity=settings.similarity,
        modules=model.names,
        size=model.size,
        query_length=query_length,
        expansion=None if expansion is None else _expansion(expansion, tokenizer),
        skipped_ids={
            kind: _ids(settings.skipped_words.get(kind, ()), tokenizer) for kind in _KINDS
        },
    )


def _expansion(expansion: Expansion, tokenizer: Tokenizer) -> QueryExpansion:
    if expansion.token is None:
        token_id = tokenizer.mask_id
        name = "a mask token"
    else:
        token_id = tokenizer.token_to_id(expansion.token)
        name = f"the token {expansion.token!r}"
    if token_id is None:
        raise ExportError(
            f"queries are filled up with {name}, which the vocabulary lacks: the tokenizer is from "
            "another checkpoint"
        )
    return QueryExpansion(expansion.length, expansion.fixed, expansion.attend, token_id)


def _ids(words: tuple[str, ...], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids of words that are a token each; others are left out, with a warning."""
    ids = {word: tokenizer.token_to_id(word) for word in words}
    missing = [word for word, id in ids.items() if id is None]
    if missing:
        _log.warning(
            "words of the skip list that are no single token are not skipped: %s (%d in all)",
            " ".join(missing[:5]),
            len(missing),
        )
    return tuple(sorted({id for id in ids.values() if id is not None}))
