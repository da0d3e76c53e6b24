"""Write the files of the hub's layout that stand beside the graphs and the tokenizer."""

from collections.abc import Mapping
from pathlib import Path

from bertrt.artifact.manifest import CrossEncoderFacts, EmbeddingFacts, TaskFacts
from bertrt.export.layout.sentence_files import copy_settings, write_sentence_files
from bertrt.export.layout.tokenizer_files import write_special_tokens_map, write_text_limit

__all__ = ["write_hub_files"]


def write_hub_files(
    checkpoint: Path, hidden_size: int, facts: Mapping[str, TaskFacts], to: Path
) -> None:
    """Write the special tokens, the limit in tokens and sentence-transformers' files.

    Args:
        checkpoint: the checkpoint's folder.
        hidden_size: the size of its hidden states.
        facts: what its task needs to know, by its name in the manifest.
        to: the folder to write to, which holds the tokenizer's files.
    """
    write_special_tokens_map(to)
    for task_facts in facts.values():
        if isinstance(task_facts, EmbeddingFacts):
            write_sentence_files(checkpoint, hidden_size, task_facts, to)
        if isinstance(task_facts, CrossEncoderFacts):
            copy_settings(checkpoint, to)
        if task_facts.max_length is not None:
            write_text_limit(to, task_facts.max_length)
