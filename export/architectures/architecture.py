"""What an encoder differs in from BERT: the names of its parts, and the parts themselves.

bertrt has one model, BERT. Another encoder is exported as a BERT with some parts replaced, whose
weights are the checkpoint's under BERT's names. So tracing, fusions, kernels and int8 know one
structure only. The parity check compares the graph with transformers' own class of the encoder.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

__all__ = ["ENCODER_TASKS", "Architecture", "Names"]

# The tasks that transformers has a head for with any encoder, and those of an encoder alone.
ENCODER_TASKS = frozenset(
    (
        "feature-extraction",
        "fill-mask",
        "text-classification",
        "multiple-choice",
        "token-classification",
        "question-answering",
        "sparse-embedding",
        "multi-vector-embedding",
    )
)

# Beginnings of weights' names, and those of BERT's names for them. A star is a number, the same on
# both sides. None is for a weight that nothing reads.
Names = Sequence[tuple[str, str | None]]

# What BERT's class for a decoder is called, and every other encoder's.
_BERT_CAUSAL, _CAUSAL = "BertLMHeadModel", "ForCausalLM"

# Fields of a config that BERT's config has too, under the same name unless `fields` has another.
_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "initializer_range",
    "is_decoder",
    "tie_word_embeddings",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "id2label",
    "label2id",
    "problem_type",
)


class Architecture:
    """An encoder in BERT's terms; as it is here, it is BERT itself.

    Attributes:
        config: the encoder's own config, of transformers.
        classes: what the names of transformers' classes begin with, by model type.
        base: the attribute of a head that holds the encoder, which weights' names begin with.
        parts: what the names of the encoder's own weights begin with.
        tasks: the tasks whose head transformers has for it.
        has_pooler: whether the plain model may have a pooler.
        has_token_types: whether the model takes `token_type_ids`.
        names: BERT's names of its weights.
        names_in_head: further names, by task, that are looked up first.
        fields: the names of fields of its config that have other names in BERT's.
        layer_count: the field of its config that says how many layers have weights of their own.
    """

    classes: ClassVar[Mapping[str, str]] = {"bert": "Bert"}
    base: ClassVar[str] = "bert"
    parts: ClassVar[tuple[str, ...]] = ("embeddings.", "encoder.", "pooler.")
    tasks: ClassVar[frozenset[str] | None] = None
    has_pooler: ClassVar[bool] = True
    has_token_types: ClassVar[bool] = True
    names: ClassVar[Names] = ()
    names_in_head: ClassVar[Mapping[str, Names]] = {}
    fields: ClassVar[Mapping[str, str]] = {}
    layer_count: ClassVar[str] = "num_hidden_layers"

    def __init__(self, config: Any) -> None:
        """Take the config of an encoder of one of the model types in `classes`."""
        self.config = config

    def class_name(self, bert_class: str) -> str:
        """Return the name of transformers' class for a head, from that of BERT's."""
        if bert_class == _BERT_CAUSAL and self.config.model_type != "bert":
            bert_class = f"Bert{_CAUSAL}"
        return self.classes[self.config.model_type] + bert_class.removeprefix("Bert")

    def bert_class(self, class_name: str) -> str:
        """Return BERT's class for the head of a class, or the name itself if it is of no head."""
        stem = self.classes[self.config.model_type]
        if not class_name.startswith(stem):
            return class_name
        rest = class_name.removeprefix(stem)
        return _BERT_CAUSAL if rest == _CAUSAL else f"Bert{rest}"

    def has_head(self, task: str) -> bool:
        """Whether transformers has the head of a task for this encoder."""
        return self.tasks is None or task in self.tasks

    def bert_names(self, name: str, task: str) -> tuple[str, ...]:
        """Return BERT's names of a weight; none if nothing reads it.

        Args:
            name: its name in a head. One that no table has is returned as it is.
            task: the task of the head.
        """
        for pattern, target in self._patterns(task):
            found = pattern.match(name)
            if found is not None:
                if target is None:
                    return ()
                for number in found.groups():
                    target = target.replace("*", number, 1)
                return (target + name[found.end() :],)
        return (name,)

    def bert_fields(self) -> dict[str, Any]:
        """Return the fields of a BertConfig for the encoder's own config."""
        own = {name: self.fields.get(name, name) for name in _FIELDS}
        found = {
            name: getattr(self.config, field)
            for name, field in own.items()
            if hasattr(self.config, field)
        }
        return found if self.has_token_types else {**found, "type_vocab_size": 1}

    def constants(self) -> dict[str, torch.Tensor]:
        """Return weights of BERT that no checkpoint of this encoder has, by BERT's names.

        Without token types, every token has the same one, whose embedding is zeros.
        """
        if self.has_token_types:
            return {}
        hidden = self.bert_fields()["hidden_size"]
        return {"bert.embeddings.token_type_embeddings.weight": torch.zeros(1, hidden)}

    def adapt(self, model: Any, task: str) -> None:
        """Replace the parts of BERT's class of a head that differ, in place.

        Args:
            model: the model, on the device "meta".
            task: the task of the head.

        Raises ExportError for a setting that bertrt does not have.
        """

    def _patterns(self, task: str) -> list[tuple[re.Pattern[str], str | None]]:
        return [*self._compiled.get(task, ()), *self._compiled[""]]

    @cached_property
    def _compiled(self) -> dict[str, list[tuple[re.Pattern[str], str | None]]]:
        tables = {"": self.names, **self.names_in_head}
        return {task: [_compile(*entry) for entry in table] for task, table in tables.items()}


def _compile(own: str, bert: str | None) -> tuple[re.Pattern[str], str | None]:
    return re.compile(re.escape(own).replace(r"\*", r"(\d+)")), bert
