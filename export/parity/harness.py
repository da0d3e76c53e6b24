"""What a gate runs: arrays at hard shapes, the checkpoint's own answers, and the graph's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.errors import BertrtError, ParityError
from bertrt.export.heads import Head
from bertrt.export.parity.reference_session import ReferenceSession
from bertrt.export.tracing.traceable_forward import base_model
from bertrt.scheduling.threads import choose_threads

__all__ = [
    "Arrays",
    "GraphSession",
    "Shapes",
    "all_feeds",
    "open_session",
    "promised",
    "run_graph",
    "run_model",
]

Arrays = dict[str, np.ndarray]

Shapes = tuple[tuple[int, int | None], ...]

# One text, with one choice: rows that a graph may treat as a matrix.
_SHORT = (1, 24)
# Batch and sequence; None is the longest sequence that the checkpoint has positions for.
SHAPES: Shapes = ((1, 1), (1, 7), _SHORT, (3, 33), (2, None))
_CHOICES = 3
_SEED = 20260101
# The share of mask tokens among the ids.
_MASKED = 0.15


class GraphSession(Protocol):
    """What a gate needs of a graph that it runs; see `bertrt.engines.ort_cpu.OrtCpuSession`."""

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> Arrays: ...

    def inputs_with_defaults(self) -> list[str]: ...

    def close(self) -> None: ...


def open_session(graph: Path, engine: str, level: str) -> GraphSession:
    """Open a graph's file on this machine's CPU.

    Args:
        graph: the file.
        engine: "ort" for ONNX Runtime, as the runtime opens it; "triton" for the references of the
            dialect's operators.
        level: how far ONNX Runtime optimizes.
    """
    if engine == "triton":
        return ReferenceSession(graph)
    return OrtCpuSession(graph, OrtOptions(level=level, threads=choose_threads().count))


def all_feeds(
    model: torch.nn.Module, head: Head, mask_id: int | None, shapes: Shapes = SHAPES
) -> Iterator[Arrays]:
    """Random arrays at each shape, right-padded to unequal lengths, seeded.

    With a `mask_id`, about every seventh token is a mask.
    """
    config = base_model(model).config
    random = np.random.default_rng(_SEED)
    longest = int(config.max_position_embeddings)
    seen = set()
    for batch, wanted in shapes:
        sequence = min(wanted or longest, longest)
        if (batch, sequence) in seen:
            continue
        seen.add((batch, sequence))
        choices = 1 if (batch, sequence) == _SHORT else _CHOICES
        lead = (batch, choices) if head.task == "multiple-choice" else (batch,)
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


def run_model(
    model: torch.nn.Module, head: Head, feeds: Arrays, internals: Sequence[str] = ()
) -> Arrays:
    """transformers' own forward pass: outputs in float32, whatever the model's dtype.

    They are the head's own and those that `bertrt.export.tracing.extra_outputs` names.
    """
    options = {"use_cache": False} if head.task == "text-generation" else {}
    options |= {f"output_{kind}": True for kind in dict.fromkeys(map(_kind, internals))}
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.inference_mode():
        outputs = model(**tensors, **options)
    own = {name: outputs[name] for name in head.outputs if outputs.get(name) is not None}
    own |= {name: outputs[_kind(name)][_layer(name)] for name in internals}
    return {name: value.float().numpy() for name, value in own.items()}


def _kind(internal: str) -> str:
    return internal.partition(".")[0]


def _layer(internal: str) -> int:
    return int(internal.partition(".")[2])


def run_graph(session: GraphSession, feeds: Arrays, shape: str) -> Arrays:
    """The graph's outputs by name; ParityError when it does not run."""
    try:
        return session.run({name: np.ascontiguousarray(array) for name, array in feeds.items()})
    except BertrtError as error:
        raise ParityError(f"the graph does not run at shape {shape}: {error}") from error


def promised(head: Head, name: str, mask: np.ndarray, output: np.ndarray) -> np.ndarray:
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
