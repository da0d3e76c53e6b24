"""Write the weights of a sparse model's queries, whose vectors no graph makes.

They are sentence-transformers' SparseStaticEmbedding: a weight for each token of the vocabulary,
such as its inverse document frequency (IDF). A query's vector has the weights of its tokens.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.artifact.manifest import SparseFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.torch_weights import read_pickle, read_safetensors
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import Module
from bertrt.export.checkpoints.splade import Splade
from bertrt.export.checkpoints.vector_modules import WEIGHT_FILES
from bertrt.export.tokenizer.open_tokenizer import open_tokenizer
from bertrt.export.tokenizer.settings import read_settings
from bertrt.tokenizer import Tokenizer

__all__ = ["QUERY_WEIGHTS", "write_static_queries"]

QUERY_WEIGHTS = "query_weights.npy"


def write_static_queries(
    facts: SparseFacts, splade: Splade, folder: Path, tokenizer: Tokenizer, directory: Path
) -> SparseFacts:
    """Write the weights of queries, if the model has any; returns the facts with them.

    Args:
        facts: how the model makes sparse vectors, where the graph makes them all.
        splade: its modules.
        folder: the checkpoint's folder.
        tokenizer: the tokenizer of its documents.
        directory: where to write `QUERY_WEIGHTS`.

    Raises ExportError for weights that are missing, damaged, not finite or of another number than
    the model's tokens, and for queries that are tokenized in another way than documents.
    """
    if splade.queries is None:
        return facts
    queries = folder / splade.queries.path
    settings = read_settings(queries)
    opened = open_tokenizer(settings).backend_tokenizer
    _check_tokenizer(opened, tokenizer, splade.queries)
    weights = _weights(folder, splade.queries, opened)
    if weights.shape != (facts.size,):
        raise ExportError(
            f"{splade.queries.path} has weights of shape {list(weights.shape)}, and the model has "
            f"{facts.size} tokens: they are of another vocabulary"
        )
    wrong = np.flatnonzero(~np.isfinite(weights))
    if len(wrong):
        raise ExportError(
            f"{splade.queries.path} gives token {wrong[0]} the weight {weights[wrong[0]]}, and "
            "weights are finite: correct it"
        )
    np.save(directory / QUERY_WEIGHTS, weights)
    return replace(
        facts,
        query_weights=QUERY_WEIGHTS,
        query_max_length=settings.max_length,
        default_kind=splade.default_kind,
    )


def _check_tokenizer(opened: Any, tokenizer: Tokenizer, queries: Module) -> None:
    """Raise ExportError unless a query has the tokens that it would have as a document."""
    opened.no_truncation()
    opened.no_padding()
    texts = [text for text, _ in tokenizer.facts.golden]
    try:
        found = [opened.encode(text, add_special_tokens=False).ids for text in texts]
    except Exception:  # the tokenizers library raises plain ones, as for a token that it lacks
        found = []
    expected = [tokenizer.encode_whole(text, special_tokens=False).ids for text in texts]
    if opened.get_vocab() != tokenizer.get_vocab() or found != expected:
        raise ExportError(
            f"the tokenizer in {queries.path} differs from that of the model's documents, and "
            "bertrt has one for both: copy the documents' tokenizer there"
        )


def _weights(folder: Path, queries: Module, opened: Any) -> np.ndarray:
    """Return the weights, float32 [V]."""
    path = read_json(folder / queries.path / "config.json").get("path")
    if path is not None:
        return _named_weights(folder / queries.path / Path(str(path)).name, opened)
    files = [folder / queries.path / name for name in WEIGHT_FILES]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ExportError(f"{queries.path} has no {' or '.join(WEIGHT_FILES)}: download it again")
    stored = (read_safetensors if file.suffix == ".safetensors" else read_pickle)(file).arrays
    if "weight" not in stored:
        names = ", ".join(sorted(stored)) or "no weights"
        raise ExportError(
            f"{queries.path}/{file.name} holds {names}, and the weights of queries are called "
            "weight: download it again"
        )
    weights: np.ndarray = stored["weight"].read().float().numpy()
    return weights


def _named_weights(path: Path, opened: Any) -> np.ndarray:
    """Read weights by their tokens from JSON; those of other tokens are 0."""
    where = f"{path.parent.name}/{path.name}"
    vocabulary = opened.get_vocab()
    weights = np.zeros(len(vocabulary), np.float32)
    for token, weight in read_json(path, where).items():
        if token not in vocabulary or not _is_weight(weight):
            raise ExportError(
                f"{where} gives {token!r} the weight {weight!r}, and maps tokens of the vocabulary "
                "to numbers: correct it"
            )
        weights[vocabulary[token]] = weight
    return weights


def _is_weight(value: Any) -> bool:
    """Whether a value of JSON, which may be NaN or any number of digits, is a float32."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= float(np.finfo(np.float32).max)
