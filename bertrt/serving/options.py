"""How an application serves its models, whatever server runs it. It needs no extra's packages."""

from dataclasses import dataclass
from typing import Literal

from bertrt.checks import check_flag, check_number, check_whole, check_whole_or_auto
from bertrt.errors import InputError

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that `bertrt serve` has as flags, and `bertrt.ray.app` as arguments.

    Attributes:
        threads, allow_spinning, max_batch_tokens: as for `bertrt.load`.
        max_waiting_texts, max_waiting_tokens: how many texts and tokens may wait for each model.
        max_inputs: the most inputs of a request.
        max_sequences: the most sequences of a request: texts times labels, windows, choices.
        max_response: about the most bytes of an answer.
        max_body: the most bytes of a request's body, before and after decompression.
        auto_truncate: whether a text that is too long is cut where a request does not say.
        request_timeout: the seconds that a request may wait.
        tei_metrics: whether the metrics also have the names of Text Embeddings Inference.

    Raises InputError for a value that cannot be used.
    """

    threads: int | Literal["auto"] = "auto"
    allow_spinning: bool = True
    max_batch_tokens: int | Literal["auto"] = "auto"
    max_waiting_texts: int = 2048
    max_waiting_tokens: int = 262_144
    max_inputs: int = 2048
    max_sequences: int = 4096
    max_response: int = 64 << 20
    max_body: int = 16 << 20
    auto_truncate: bool = True
    request_timeout: float = 30.0
    tei_metrics: bool = False

    def __post_init__(self) -> None:
        for name in ("threads", "max_batch_tokens"):
            check_whole_or_auto(name, getattr(self, name))
        for name in (
            "max_waiting_texts",
            "max_waiting_tokens",
            "max_inputs",
            "max_sequences",
            "max_response",
            "max_body",
        ):
            check_whole(name, getattr(self, name), least=1)
        for name in ("allow_spinning", "auto_truncate", "tei_metrics"):
            check_flag(name, getattr(self, name))
        check_number("request_timeout", self.request_timeout, least=0)
        if not self.request_timeout:
            raise InputError("request_timeout leaves no time to answer: give more than 0")
