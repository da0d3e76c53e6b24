"""Run a checkpoint and its exported graph on the same random inputs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from bertrt.artifact.graph_io import ATTENTIONS, HIDDEN_STATES, LAYER_OUTPUTS
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.errors import BertrtError, ParityError
from bertrt.export.extra_outputs import split_name
from bertrt.export.heads import HeadSpec
from bertrt.export.parity.advice import TRY
from bertrt.export.parity.reference_session import ReferenceSession
from bertrt.export.tracing.traceable_forward import base_model
from bertrt.scheduling.threads import choose_threads

__all__ = [
    "SHAPES",
    "Arrays",
    "ParitySession",
    "Shapes",
    "has_columns",
    "open_session",
    "random_inputs",
    "run_graph",
    "run_model",
    "shape_name",
    "valid_positions",
]

Arrays = dict[str, np.ndarray]
ParitySession = OrtCpuSession | ReferenceSession
# Batch and sequence; None is the longest sequence that the checkpoint has positions for.
Shapes = tuple[tuple[int, int | None], ...]

# At this shape multiple choice has one choice: a graph may treat its rows as a matrix.
_ONE_CHOICE = (1, 24)
SHAPES: Shapes = ((1, 1), (1, 7), _ONE_CHOICE, (3, 33), (2, None))
_CHOICES = 3
_SEED = 20260101
# The share of mask tokens among the ids.
_MASKED = 0.15


def open_session(graph: Path, engine: str, level: str) -> ParitySession:
    """Open a graph on this machine's CPU.

    Args:
        graph: the file.
        engine: "ort" for ONNX Runtime, opened as the runtime opens it; "triton" for the numpy
            references of the Triton engine's operators.
        level: how far ONNX Runtime optimizes.
    """
    if engine == "triton":
        return ReferenceSession(graph)
    return OrtCpuSession(graph, OrtOptions(level=level, threads=choose_threads().count))


def random_inputs(
    model: torch.nn.Module, head: HeadSpec, mask_id: int | None, shapes: Shapes = SHAPES
) -> Iterator[Arrays]:
    """Yield random, seeded inputs of each shape, right-padded to unequal lengths.

    With a `mask_id`, about every seventh token is a mask.
    """
    config = base_model(model).config
    random = np.random.default_rng(_SEED)
    longest = int(config.max_position_embeddings)
    seen = set()
    for batch, length in shapes:
        sequence = min(length or longest, longest)
        if (batch, sequence) in seen:
            continue
        seen.add((batch, sequence))
        choices = 1 if (batch, sequence) == _ONE_CHOICE else _CHOICES
        lead = (batch, choices) if head.task == "multiple-choice" else (batch,)
        rows = int(np.prod(lead))
        # The first row is full, and each row is shorter than the one before.
        lengths = np.maximum(1, sequence - np.arange(rows) * sequence // (rows + 1))
        mask = np.arange(sequence) < lengths[:, None]
        ids = random.integers(0, config.vocab_size, (rows, sequence))
        types = random.integers(0, config.type_vocab_size, (rows, sequence))
        if head.task == "text-generation":
            # An encoder that counts positions by tokens counts others with a cache, if a text has
            # padding tokens inside. No prompt has.
            ids[ids == config.pad_token_id] = config.vocab_size - 1
        if mask_id is not None:
            ids[random.random(ids.shape) < _MASKED] = mask_id
        ids[~mask] = config.pad_token_id or 0
        types[~mask] = 0
        yield {
            "input_ids": ids.reshape(*lead, sequence).astype(np.int64),
            "attention_mask": mask.reshape(*lead, sequence).astype(np.int64),
            "token_type_ids": types.reshape(*lead, sequence).astype(np.int64),
        }


def shape_name(inputs: Arrays) -> str:
    """Write the shape of `input_ids` as in reports: 3x33."""
    return "x".join(str(size) for size in inputs["input_ids"].shape)


def run_model(
    model: torch.nn.Module, head: HeadSpec, inputs: Arrays, extra_outputs: Sequence[str] = ()
) -> Arrays:
    """Run transformers' own forward pass; outputs are float32, and float64 for a float64 model.

    The outputs are the head's own and those that `bertrt.export.extra_outputs` names.
    """
    options = {"use_cache": False} if head.task == "text-generation" else {}
    options |= {f"output_{split_name(name)[0]}": True for name in extra_outputs}
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.inference_mode():
        result = model(**tensors, **options)
    outputs = {name: result[name] for name in head.outputs if result.get(name) is not None}
    for name in extra_outputs:
        kind, index = split_name(name)
        outputs[name] = result[kind][index]
    return {
        name: (value if value.dtype == torch.float64 else value.float()).numpy()
        for name, value in outputs.items()
    }


def run_graph(session: ParitySession, inputs: Arrays, shape: str) -> Arrays:
    """Run a graph and return its outputs by name; raises ParityError if it does not run."""
    try:
        return session.run({name: np.ascontiguousarray(array) for name, array in inputs.items()})
    except BertrtError as error:
        raise ParityError(f"the graph does not run at shape {shape} ({error}): {TRY}") from error


def valid_positions(head: HeadSpec, name: str, mask: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return which entries of an output are defined, bool: those that belong to no padding token.

    Outputs for a whole row are always defined. Those of padding tokens are not, so that an engine
    may skip these tokens.

    Args:
        head: the head.
        name: the output's name.
        mask: the attention mask [B, S], or [B, C, S] for multiple choice.
        output: the output's values.
    """
    kind = name.partition(".")[0]
    if kind in LAYER_OUTPUTS:
        tokens = mask.astype(bool).reshape(-1, mask.shape[-1])
        tokens = tokens[:, :, None] if kind == HIDDEN_STATES else tokens[:, None, :, None]
        return np.broadcast_to(tokens, output.shape)
    per_token = name in ("last_hidden_state", "prediction_logits", "start_logits", "end_logits")
    per_token |= head.task in ("fill-mask", "token-classification", "text-generation")
    if not per_token:
        return np.ones(output.shape, dtype=bool)
    return np.broadcast_to(
        mask.astype(bool).reshape(*mask.shape, *[1] * (output.ndim - mask.ndim)), output.shape
    )


def has_columns(head: HeadSpec, name: str) -> bool:
    """Whether an output's last axis holds features, and not tokens or choices."""
    of_tokens = ("start_logits", "end_logits", ATTENTIONS)
    return head.task != "multiple-choice" and not name.startswith(of_tokens)
