"""What is exported: a checkpoint with its model, and what the task needs beside its graph."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import CrossEncoderFacts, MultiVectorFacts, TokenizerFacts
from bertrt.artifact.targets import Target
from bertrt.errors import ExportError
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.colbert_settings import ColbertSettings
from bertrt.export.checkpoints.cross_encoder import read_cross_encoder
from bertrt.export.checkpoints.generation_config import eos_token_id
from bertrt.export.checkpoints.multi_vector import build_multi_vector_models, read_settings
from bertrt.export.checkpoints.multi_vector_facts import resolve_facts
from bertrt.export.checkpoints.reference_model import build_reference
from bertrt.export.checkpoints.sentence_transformers import read_embedding
from bertrt.export.checkpoints.splade import Splade, read_sparse, read_splade
from bertrt.export.checkpoints.vector_modules import read_vector_modules
from bertrt.export.extra_outputs import extra_outputs
from bertrt.export.heads import HeadSpec
from bertrt.export.sparse_model import SparseModel, SparseReference
from bertrt.export.static_queries import write_static_queries
from bertrt.export.tokenizer.text_graph.write import check_text_graph_options
from bertrt.export.tracing.trace import has_cache
from bertrt.export.vector_modules import VectorModules
from bertrt.tokenizer import Tokenizer

__all__ = ["Source", "build_source", "read_task_facts", "with_limits"]

# Why the Triton engine cannot serve a task.
_NO_TRITON = {
    "sparse-embedding": "has no kernel that pools logits for sparse-embedding",
    "multi-vector-embedding": "leaves out the tokens that a mask hides, which may have vectors in "
    "a query",
}


@dataclass(frozen=True)
class Source:
    """A checkpoint and its model, and what the graph has beside the head's outputs.

    Attributes:
        checkpoint, task, head: what is exported, as which task, and the head of it.
        module: the BERT that is traced, or a module that holds it.
        reference: transformers' own model, which gives the answers that the graph must give, and
            whose config the artifact has. For BERT they may be one.
        cached: whether a decoder's graph has a cache.
        extra_outputs: further outputs.
        vectors: what makes a text's vector of its hidden states; None for other tasks.
        splade: what makes a sparse one; None for other tasks.
        texts: how a ColBERT model takes texts; None for other tasks.
    """

    checkpoint: Checkpoint
    task: str
    head: HeadSpec
    module: Any
    reference: Any
    cached: bool
    extra_outputs: tuple[str, ...]
    vectors: VectorModules | None
    splade: Splade | None
    texts: ColbertSettings | None

    @property
    def marker_options(self) -> dict[str, Any]:
        """The arguments of `write_tokenizer` that say which markers a text may have."""
        if self.texts is None:
            return {}
        return {"markers": self.texts.markers, "needs_markers": self.texts.needs_markers}


def build_source(
    checkpoint: Checkpoint,
    head: HeadSpec,
    task: str,
    target: Target,
    *,
    allow_new_head: bool,
    hidden_states: bool,
    attentions: bool,
    with_tokenizer: bool,
) -> Source:
    """Build the model of a checkpoint.

    Args:
        checkpoint: the checkpoint.
        head: the head to export.
        task: its task, or one that uses its graph.
        target: what it is exported for.
        allow_new_head, hidden_states, attentions, with_tokenizer: see `export`.

    Raises ExportError for weights and settings that cannot be used, and for a target that the task
    cannot have.
    """
    if with_tokenizer:
        check_text_graph_options(head, target.device)
    if target.engine == "triton" and head.task in _NO_TRITON:
        raise ExportError(
            f"the Triton engine {_NO_TRITON[head.task]}: export with --device cuda --engine ort"
        )
    texts = None
    if head.task == "multi-vector-embedding":
        texts = read_settings(checkpoint)
        module: Any
        module, reference = build_multi_vector_models(head, checkpoint)
    else:
        module = build_model(head, checkpoint, allow_new_head=allow_new_head)
        reference = build_reference(module, head, checkpoint.architecture)
    if head.task == "text-generation":
        for model in (module, reference):
            model.config.eos_token_id = eos_token_id(checkpoint)
    names = extra_outputs(module.config, head, hidden_states=hidden_states, attentions=attentions)
    cached = has_cache(module, head) and target.device != "cuda"
    vectors, splade = None, None
    if head.task == "feature-extraction":
        vectors = read_vector_modules(checkpoint.folder, module.config.hidden_size)
    if head.task == "sparse-embedding":
        splade = read_splade(checkpoint.folder)
        reference = SparseReference(reference, splade.pooling, splade.activation)
        module = SparseModel(module, splade.pooling, splade.activation)
    return Source(checkpoint, task, head, module, reference, cached, names, vectors, splade, texts)


def read_task_facts(source: Source, tokenizer: Tokenizer, stage: Path) -> dict[str, Any]:
    """Return what the task needs to know beside its graph, by its name in the manifest.

    What is too large for the manifest is written to a file.
    """
    checkpoint, config = source.checkpoint, source.module.config
    folders = checkpoint.folder, checkpoint.transformer_folder
    if source.head.task == "text-classification":
        facts = read_cross_encoder(checkpoint.folder, checkpoint.config, config.num_labels)
        return {"cross_encoder": _within(facts, tokenizer.max_length)}
    if source.vectors is not None:
        return {"embedding": read_embedding(*folders, tokenizer, source.vectors)}
    if (splade := source.splade) is not None:
        sparse = read_sparse(*folders, tokenizer, splade, config.vocab_size)
        return {"sparse": write_static_queries(sparse, splade, checkpoint.folder, tokenizer, stage)}
    if source.texts is not None:
        return {"multi_vector": resolve_facts(source.texts, checkpoint, tokenizer, source.module)}
    return {}


def _within(facts: CrossEncoderFacts, limit: int) -> CrossEncoderFacts:
    """Return how pairs are scored, with a limit in tokens that the tokenizer has too."""
    if facts.max_length is None:
        return facts
    return replace(facts, max_length=min(facts.max_length, limit))


def with_limits(tokenizer: TokenizerFacts, facts: MultiVectorFacts | None) -> TokenizerFacts:
    """Return a tokenizer's facts, with a limit that no kind of text exceeds.

    Args:
        tokenizer: the facts.
        facts: how a ColBERT model takes texts; None for another model.
    """
    if facts is None:
        return tokenizer
    filled = 0 if facts.expansion is None else facts.expansion.length
    longest = max(tokenizer.max_length, facts.max_length, facts.query_length, filled)
    return replace(tokenizer, max_length=longest)
