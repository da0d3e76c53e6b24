"""The parity gate: a graph is an export only if it gives the checkpoint's own answers.

The graph runs as it will be shipped, in the runtime's own session. The reference is the float32
transformers model with its own forward pass, not the one that was traced.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertrt.errors import BertrtError, ParityError
from bertrt.export.comparison import Comparison, OutputParity
from bertrt.export.forward import base_model
from bertrt.export.heads import Head
from bertrt.export.optional_paths import optional_paths
from bertrt.export.trace import has_cache
from bertrt.session import Session
from bertrt.session_options import SessionOptions
from bertrt.threads import choose_threads

__all__ = ["OutputParity", "ParityReport", "check_parity"]

Arrays = dict[str, np.ndarray]

# Batch and sequence; None is the longest sequence that the checkpoint has positions for.
_SHAPES: tuple[tuple[int, int | None], ...] = ((1, 1), (1, 7), (3, 33), (2, None))
_CHOICES = 3
_SEED = 20260101
# The share of mask tokens among the ids.
_MASKED = 0.15


@dataclass(frozen=True)
class ParityReport:
    """The shapes that were run, and each output's worst case over all of them.

    A shape is written BxS, BxCxS for multiple choice, or BxP+S for S tokens after P cached ones.
    `dataclasses.asdict` makes it ready for JSON.
    """

    shapes: tuple[str, ...]
    outputs: tuple[OutputParity, ...]


def check_parity(
    model: torch.nn.Module,
    head: Head,
    graph: Path,
    *,
    bound: float = 1e-4,
    session_level: str,
    mask_id: int | None = None,
    internals: Sequence[str] = (),
) -> ParityReport:
    """Run the graph and the model on the same arrays and compare every output.

    What the graph can do beside the model, its optional inputs and outputs, is compared with the
    model's answers too: see `bertrt.export.optional_paths`.

    Args:
        model: the checkpoint, float32, in eval mode, with eager attention.
        head: which head it is.
        graph: the ONNX file.
        bound: the largest absolute difference allowed on any position that is not padding.
        session_level: how far ONNX Runtime optimizes: the `SESSION_LEVEL` of the target.
        mask_id: the mask token's id, if any: some of the ids are then it.
        internals: the outputs that show the model's inside.

    The shapes are 1x1, 1x7, 3x33 with ragged rows, and two rows of the longest sequence, one of
    them padded. A decoder also runs each in two steps, the second on the first one's cache.

    Raises ParityError, which names the output, the shape and the value, when the graph does not
    run, gives another shape or a number that is not finite, or is further off than the bound.
    """
    options = SessionOptions(level=session_level, threads=choose_threads().count)
    session = Session(graph, options)
    comparisons: dict[str, Comparison] = {}
    shapes = []
    try:
        for feeds in _all_feeds(model, head, mask_id):
            shape = "x".join(str(size) for size in feeds["input_ids"].shape)
            reference = _run_model(model, head, feeds, internals)
            for label, answer in _run_graph(session, model, head, feeds, shape):
                shapes.append(label)
                for name, expected in reference.items():
                    if name in internals and "+" in label:
                        continue  # of the tokens of one step each
                    if name not in answer:
                        raise ParityError(f"the graph has no output {name}, only {list(answer)}")
                    valid = _valid(head, name, feeds["attention_mask"], expected)
                    comparison = comparisons.setdefault(name, Comparison(name, bound))
                    comparison.add(answer[name], expected, valid, label)
            names = session.inputs_with_defaults()
            for path in optional_paths(names, set(answer), feeds, reference, mask_id):
                answer = _run(session, feeds | path.feeds, shape) if path.feeds else answer
                for name, expected in path.expected.items():
                    full = f"{name} ({path.name})" if path.name else name
                    comparison = comparisons.setdefault(full, Comparison(full, bound))
                    comparison.add(answer[name], expected, np.ones(expected.shape, bool), shape)
    finally:
        session.close()
    return ParityReport(tuple(shapes), tuple(one.result() for one in comparisons.values()))


def _all_feeds(model: torch.nn.Module, head: Head, mask_id: int | None) -> Iterator[Arrays]:
    """Random arrays at each shape, right-padded to unequal lengths, seeded."""
    config = base_model(model).config
    random = np.random.default_rng(_SEED)
    longest = int(config.max_position_embeddings)
    seen = set()
    for batch, wanted in _SHAPES:
        sequence = min(wanted or longest, longest)
        if (batch, sequence) in seen:
            continue
        seen.add((batch, sequence))
        lead = (batch, _CHOICES) if head.task == "multiple-choice" else (batch,)
        rows = int(np.prod(lead))
        # The first row is full; the others end sooner, the last one soonest.
        lengths = np.maximum(1, sequence - np.arange(rows) * sequence // (rows + 1))
        mask = np.arange(sequence) < lengths[:, None]
        ids = random.integers(0, config.vocab_size, (rows, sequence))
        types = random.integers(0, config.type_vocab_size, (rows, sequence))
        if mask_id is not None:
            ids[random.random(ids.shape) < _MASKED] = mask_id
        ids[~mask] = config.pad_token_id or 0
        types[~mask] = 0
        yield {
            "input_ids": ids.reshape(*lead, sequence).astype(np.int64),
            "attention_mask": mask.reshape(*lead, sequence).astype(np.int64),
            "token_type_ids": types.reshape(*lead, sequence).astype(np.int64),
        }


def _run_model(
    model: torch.nn.Module, head: Head, feeds: Arrays, internals: Sequence[str]
) -> Arrays:
    options = {"use_cache": False} if head.task == "text-generation" else {}
    options |= {f"output_{kind}": True for kind in dict.fromkeys(map(_kind, internals))}
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.inference_mode():
        outputs = model(**tensors, **options)
    own = {name: outputs[name].numpy() for name in head.outputs if outputs.get(name) is not None}
    return own | {name: outputs[_kind(name)][_layer(name)].numpy() for name in internals}


def _kind(internal: str) -> str:
    return internal.partition(".")[0]


def _layer(internal: str) -> int:
    return int(internal.partition(".")[2])


def _run_graph(
    session: Session, model: torch.nn.Module, head: Head, feeds: Arrays, shape: str
) -> Iterator[tuple[str, Arrays]]:
    """The graph's answers to these arrays: in one step, and with a cache also in two."""
    if not has_cache(model, head):
        yield shape, _run(session, feeds, shape)
        return
    config = base_model(model).config
    batch, sequence = feeds["input_ids"].shape
    size = config.hidden_size // config.num_attention_heads
    nothing = np.zeros((batch, config.num_attention_heads, 0, size), dtype=np.float32)
    layers = range(config.num_hidden_layers)
    empty = {f"past_key_values.{i}.{part}": nothing for i in layers for part in ("key", "value")}
    yield shape, _run(session, feeds | empty, shape)
    if sequence < 2:
        return
    cut = sequence // 2
    label = f"{batch}x{cut}+{sequence - cut}"
    first = _run(session, {name: array[:, :cut] for name, array in feeds.items()} | empty, label)
    past = {name: first[name.replace("past_key_values", "present")] for name in empty}
    rest = {name: array[:, cut:] for name, array in feeds.items()}
    rest["attention_mask"] = feeds["attention_mask"]
    second = _run(session, rest | past, label)
    yield label, {"logits": np.concatenate([first["logits"], second["logits"]], axis=1)}


def _run(session: Session, feeds: Arrays, shape: str) -> Arrays:
    try:
        return session.run({name: np.ascontiguousarray(array) for name, array in feeds.items()})
    except BertrtError as error:
        raise ParityError(f"the graph does not run at shape {shape}: {error}") from error


def _valid(head: Head, name: str, mask: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Which entries of an output are promised: those that belong to no padding token.

    An answer about the whole row is promised always. Padding tokens have no promised answer, so
    that an executor may skip them.
    """
    if _kind(name) in ("hidden_states", "attentions"):
        tokens = mask.astype(bool).reshape(-1, mask.shape[-1])
        tokens = tokens[:, :, None] if _kind(name) == "hidden_states" else tokens[:, None, :, None]
        return np.broadcast_to(tokens, output.shape)
    per_token = name in ("last_hidden_state", "prediction_logits", "start_logits", "end_logits")
    per_token |= head.task in ("fill-mask", "token-classification", "text-generation")
    if not per_token:
        return np.ones(output.shape, dtype=bool)
    return np.broadcast_to(
        mask.astype(bool).reshape(*mask.shape, *[1] * (output.ndim - mask.ndim)), output.shape
    )
