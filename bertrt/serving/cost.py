"""What a request costs, before it runs: how many sequences, and about how many bytes of answer.

Inputs and options are as they came. What a head will refuse anyway costs nothing here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertrt.serving.models import Model

__all__ = ["Cost", "estimate"]

# About how many bytes as JSON: a float32, also as the double that a list of numbers holds, a
# token's text, and an object of a label or a token with its score.
_FLOAT, _DOUBLE, _TOKEN, _ENTRY = 12, 20, 8, 96

# How many weights a sparse vector hardly exceeds: SPLADE models give 50 to 300, and nothing bounds
# them.
_MOST_WEIGHTS = 1024

# The length of a text in tokens: exactly, or as characters, of which there are at least as many.
Length = Callable[[str], int]


@dataclass(frozen=True)
class Cost:
    """What inputs cost.

    Attributes:
        sequences: how often a text goes through the graph: once for each label of a zero-shot
            classification, each choice, each window of a long text, and each text to generate.
        size: about how many bytes the answer has, as JSON.
        has_windows: whether sequences are windows, counted by characters unless they are known.
    """

    sequences: int
    size: int
    has_windows: bool = False

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        has_windows = self.has_windows or other.has_windows
        return Cost(self.sequences + other.sequences, self.size + other.size, has_windows)


def estimate(
    model: Model,
    method: str,
    inputs: Sequence[Any],
    options: Mapping[str, Any],
    length: Length = len,
) -> Cost:
    """Estimate what inputs cost.

    Args:
        model: the model.
        method, inputs, options: as for `Model.answer`.
        length: the length of a text in tokens, for windows.
    """
    if method == "embed":
        size = options.get("dimensions") or _vector_size(model)
        return Cost(len(inputs), _FLOAT * size * len(inputs))
    if method == "embed_sparse":
        return Cost(len(inputs), _ENTRY * _MOST_WEIGHTS * len(inputs))
    if method == "score":
        return Cost(len(inputs), _FLOAT * len(model.labels) * len(inputs))
    if method == "maxsim":
        return Cost(len(inputs), _FLOAT * len(inputs))
    if method == "embed_tokens":
        count = sum(_vectors_of(model, item, options) for item in inputs)
        return Cost(len(inputs), _FLOAT * _token_size(model) * count)
    has_windows = model.task == "question-answering" or options.get("stride") is not None
    total = Cost(0, 0)
    for item in inputs:
        sequences = _sequences(model, item, options, length)
        total += Cost(sequences, _size(model, item, options, sequences), has_windows)
    return total


def _vector_size(model: Model) -> int:
    facts = model.embedding
    return model.artifact.config.hidden_size if facts is None else facts.dimensions or facts.size


def _token_size(model: Model) -> int:
    facts = model.artifact.manifest.multi_vector
    return model.artifact.config.hidden_size if facts is None else facts.size


def _vectors_of(model: Model, item: Any, options: Mapping[str, Any]) -> int:
    """Return how many vectors a text has at most in a multi-vector model."""
    facts = model.artifact.manifest.multi_vector
    filled = 0 if facts is None or facts.expansion is None else facts.expansion.length
    return max(_tokens(model, item), filled if options.get("kind") == "query" else 0)


def _sequences(model: Model, item: Any, options: Mapping[str, Any], length: Length) -> int:
    """Return how many sequences an input has."""
    if (labels := options.get("candidate_labels")) is not None:
        return labels.count(",") + 1 if isinstance(labels, str) else _count(labels)
    if model.task == "multiple-choice":
        choices = item.get("choices") if isinstance(item, Mapping) else None
        return _count(options.get("choices") if choices is None else choices)
    if model.task == "text-generation":
        return _whole(options, "num_return_sequences", 1)
    most = model.runtime.tokenizer.max_length
    if model.task == "question-answering" and isinstance(item, Mapping):
        question, context = item.get("question"), item.get("context")
        if isinstance(question, str) and isinstance(context, str):
            window = _whole(options, "max_seq_len", min(most, 384))
            stride = _whole(options, "doc_stride", min(window // 2, 128))
            return _windows(length(context), window - length(question) - 3, stride)
    if model.task == "token-classification" and options.get("stride") is not None:
        window = _whole(options, "max_length", most)
        return _windows(sum(map(length, _texts(item))), window - 2, _whole(options, "stride", 0))
    return 1


def _windows(tokens: int, room: int, stride: int) -> int:
    """Return how many windows with room for some tokens a text has, each shares with the next."""
    if tokens <= room:
        return 1
    return 1 + -(-(tokens - room) // max(1, room - stride))


def _size(model: Model, item: Any, options: Mapping[str, Any], sequences: int) -> int:
    """Return about how many bytes the answer to an input of so many sequences has."""
    if options.get("candidate_labels") is not None:
        return _ENTRY * sequences
    return _SIZES[model.task](model, item, options, sequences)


def _tokens(model: Model, item: Any) -> int:
    """Return how many tokens an input has at most in a sequence."""
    # A character is a token at most, and there are two special ones.
    return min(sum(map(len, _texts(item))) + 2, model.runtime.tokenizer.max_length)


def _vectors(model: Model, item: Any, options: Any, sequences: int) -> int:
    return _DOUBLE * model.artifact.config.hidden_size * _tokens(model, item)


def _token_vectors(model: Model, item: Any, options: Any, sequences: int) -> int:
    return _DOUBLE * _token_size(model) * _vectors_of(model, item, options)


def _classes(model: Model, item: Any, options: Any, sequences: int) -> int:
    count = len(model.labels)
    return _ENTRY * min(count, _whole(options, "top_k", count))


def _spans(model: Model, item: Any, options: Any, sequences: int) -> int:
    return _ENTRY * sequences * _tokens(model, item)


def _fillings(model: Model, item: Any, options: Any, sequences: int) -> int:
    tokenizer = model.runtime.tokenizer
    mask = "" if tokenizer.mask_id is None else tokenizer.id_to_token(tokenizer.mask_id)
    tokens = _tokens(model, item)
    masks = min(tokens, sum(text.count(mask) for text in _texts(item))) if mask else 0
    count = min(_whole(options, "top_k", 5), model.vocab_size)
    # Each has the whole text, filled in.
    return masks * count * (_ENTRY + _TOKEN * tokens)


def _answers(model: Model, item: Any, options: Any, sequences: int) -> int:
    words = min(_whole(options, "max_answer_len", 15), model.runtime.tokenizer.max_length)
    return _whole(options, "top_k", 1) * (_ENTRY + _TOKEN * words)


def _written(model: Model, item: Any, options: Any, sequences: int) -> int:
    if options.get("next_tokens") is not None:
        return _ENTRY * min(_whole(options, "next_tokens", 1), model.vocab_size)
    most = model.runtime.tokenizer.max_length
    words = min(_whole(options, "max_new_tokens", most), most)
    return sequences * (sum(map(len, _texts(item))) + _TOKEN * words)


def _entries(model: Model, item: Any, options: Any, sequences: int) -> int:
    return _ENTRY * sequences


def _weights(model: Model, item: Any, options: Any, sequences: int) -> int:
    return _ENTRY * min(_MOST_WEIGHTS, _whole(options, "top_k", _MOST_WEIGHTS))


_SIZES: dict[str, Callable[[Model, Any, Mapping[str, Any], int], int]] = {
    "feature-extraction": _vectors,
    "fill-mask": _fillings,
    "multi-vector-embedding": _token_vectors,
    "multiple-choice": _entries,
    "next-sentence-prediction": _entries,
    "pretraining": _fillings,
    "question-answering": _answers,
    "sparse-embedding": _weights,
    "text-classification": _classes,
    "text-generation": _written,
    "token-classification": _spans,
}


def _texts(item: Any) -> Iterator[str]:
    """Yield the texts of an input."""
    parts = item.values() if isinstance(item, Mapping) else item
    for part in parts if isinstance(item, (list, tuple, Mapping)) else (item,):
        if isinstance(part, str):
            yield part


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _whole(options: Mapping[str, Any], name: str, default: int) -> int:
    """Return an option that is a whole number, or its default for what the head will refuse."""
    value = options.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return default
