"""The nine BERT heads: the transformers class of each task, and the outputs of its graph."""

from dataclasses import dataclass

from bertrt.errors import ExportError

__all__ = [
    "ALIASES",
    "FIRST_TOKEN_TASKS",
    "HEADS",
    "MASK_TASKS",
    "TRANSFORM_TASKS",
    "HeadSpec",
    "head_for",
]


@dataclass(frozen=True)
class HeadSpec:
    """A head: its Hugging Face task, its transformers class and its graph's outputs, in order."""

    task: str
    class_name: str
    outputs: tuple[str, ...]


HEADS: tuple[HeadSpec, ...] = (
    HeadSpec("feature-extraction", "BertModel", ("last_hidden_state", "pooler_output")),
    HeadSpec("pretraining", "BertForPreTraining", ("prediction_logits", "seq_relationship_logits")),
    HeadSpec("text-generation", "BertLMHeadModel", ("logits",)),
    HeadSpec("fill-mask", "BertForMaskedLM", ("logits",)),
    HeadSpec("next-sentence-prediction", "BertForNextSentencePrediction", ("logits",)),
    HeadSpec("text-classification", "BertForSequenceClassification", ("logits",)),
    HeadSpec("multiple-choice", "BertForMultipleChoice", ("logits",)),
    HeadSpec("token-classification", "BertForTokenClassification", ("logits",)),
    HeadSpec("question-answering", "BertForQuestionAnswering", ("start_logits", "end_logits")),
)

# Tasks whose heads read the first token only.
FIRST_TOKEN_TASKS = ("text-classification", "next-sentence-prediction", "multiple-choice")
# Tasks that may need the logits of mask tokens only.
MASK_TASKS = ("fill-mask", "pretraining")
# Tasks whose heads have a linear layer, activation and LayerNormalization before the vocabulary.
TRANSFORM_TASKS = ("pretraining", "text-generation", "fill-mask")

# Tasks that use the graph of another task.
ALIASES = {"zero-shot-classification": "text-classification"}

# Flax names one class differently, and its checkpoints have that name as their architecture.
_OTHER_CLASS_NAMES = {"BertForCausalLM": "BertLMHeadModel"}


def head_for(task: str | None, architectures: list[str] | None) -> HeadSpec:
    """Return the head of a task or, without a task, of a config's `architectures`.

    Raises ExportError if neither names one of the nine heads.
    """
    if task is not None:
        for head in HEADS:
            if head.task == ALIASES.get(task, task):
                return head
        known = ", ".join([head.task for head in HEADS] + list(ALIASES))
        raise ExportError(f"unknown task {task!r}: choose one of {known}")
    architecture = architectures[0] if architectures else ""
    for head in HEADS:
        if _OTHER_CLASS_NAMES.get(architecture, architecture) == head.class_name:
            return head
    raise ExportError(
        f"the config's architectures are {architectures!r}, none of which is a BERT head that "
        f"bertrt exports: choose one with --task ({', '.join(head.task for head in HEADS)})"
    )
