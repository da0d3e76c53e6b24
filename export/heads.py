"""The nine BERT heads: the transformers class that each task means, and its graph's outputs."""

from dataclasses import dataclass

from bertrt.errors import ExportError

__all__ = ["HEADS", "Head", "head_for"]


@dataclass(frozen=True)
class Head:
    """One head: a task's name, its transformers class and its graph's output names in order."""

    task: str
    class_name: str
    outputs: tuple[str, ...]


HEADS: tuple[Head, ...] = (
    Head("feature-extraction", "BertModel", ("last_hidden_state", "pooler_output")),
    Head("pretraining", "BertForPreTraining", ("prediction_logits", "seq_relationship_logits")),
    Head("text-generation", "BertLMHeadModel", ("logits",)),
    Head("fill-mask", "BertForMaskedLM", ("logits",)),
    Head("next-sentence-prediction", "BertForNextSentencePrediction", ("logits",)),
    Head("text-classification", "BertForSequenceClassification", ("logits",)),
    Head("multiple-choice", "BertForMultipleChoice", ("logits",)),
    Head("token-classification", "BertForTokenClassification", ("logits",)),
    Head("question-answering", "BertForQuestionAnswering", ("start_logits", "end_logits")),
)

# Flax' name for a head's class, which its checkpoints have as their architecture.
_OTHER_NAMES = {"BertForCausalLM": "BertLMHeadModel"}

# Tasks that are another task's graph, asked differently.
ALIASES = {"zero-shot-classification": "text-classification"}


def head_for(task: str | None, architectures: list[str] | None) -> Head:
    """The head that `task` names, or, with no task, the one in a config's `architectures`.

    Raises ExportError when neither names one of the nine heads.
    """
    if task is not None:
        for head in HEADS:
            if head.task == ALIASES.get(task, task):
                return head
        known = ", ".join([head.task for head in HEADS] + list(ALIASES))
        raise ExportError(f"unknown task {task!r}: choose one of {known}")
    stated = architectures[0] if architectures else ""
    for head in HEADS:
        if _OTHER_NAMES.get(stated, stated) == head.class_name:
            return head
    raise ExportError(
        f"the config's architectures are {architectures!r}, none of the nine BERT heads: "
        f"say which one with --task ({', '.join(head.task for head in HEADS)})"
    )
