"""Errors as HTTP answers, in the form that the clients of each family of routes expect.

The families are "tei" (Text Embeddings Inference and the Hugging Face task shape), "openai",
"cohere" (and Jina) and "oip" (the Open Inference Protocol). A handler raises `HttpError`, or one of
the library's errors, which `http_error` maps to a status.
"""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, NoReturn

from bertrt.errors import (
    ArtifactError,
    BertrtError,
    BusyError,
    DeadlineError,
    DeviceError,
    InputError,
    TooLargeError,
    TooLongError,
    without_texts,
)

__all__ = ["HttpError", "error_body", "http_error", "invalid", "status_in"]

_OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_TEI_TYPES = {400: "Empty", 413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded"}


@dataclass
class HttpError(Exception):
    """An answer that is an error.

    Attributes:
        status: the status code.
        message: one sentence; it holds no part of a text.
        param: the field of the request that is wrong, if one is.
        code: OpenAI's code, such as "model_not_found".
        headers: further headers of the answer.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def invalid(message: str, param: str | None = None) -> NoReturn:
    """Raise the error for a field that cannot be used."""
    raise HttpError(422, message, param)


def http_error(error: BaseException, family: str) -> HttpError:
    """Return the answer to a library's error; 500 for any other, whose text stays in the log.

    The family's clients may look for words of their own.
    """
    if isinstance(error, HttpError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return HttpError(503, "the server is shutting down", headers={"retry-after": "1"})
    if isinstance(error, TooLargeError):
        message = f"the request has {error.size} {error.unit}, and at most {error.limit} may wait"
        return HttpError(413, f"{message}: ask for less at a time")
    if isinstance(error, TooLongError) and family == "tei":
        words = f"`inputs` must have less than {error.limit} tokens. Given: {error.tokens}"
        return HttpError(422, f"Input validation error: {words}")
    if isinstance(error, InputError):
        return HttpError(422, without_texts(error))
    if isinstance(error, DeadlineError):
        message = "the request's deadline passed before all of it had started"
        return HttpError(504, message, headers={"x-should-retry": "false"})
    if isinstance(error, BusyError):
        return busy(error.retry_after)
    if isinstance(error, (ArtifactError, DeviceError)):
        return HttpError(500, "the model cannot run; the server's log says why")
    if isinstance(error, BertrtError):
        return HttpError(503, "the model cannot answer now", headers={"retry-after": "1"})
    return HttpError(500, "internal error; the server's log says more")


def status_in(family: str, status: int) -> int:
    """Return a status as a family writes it: some have one for every wrong field, or for busy."""
    if status == 422 and family in ("openai", "oip"):
        return 400
    return 503 if status == 429 and family == "oip" else status


def busy(seconds: float) -> HttpError:
    """Return the answer while the queue is full."""
    headers = {
        "retry-after": str(max(1, math.ceil(seconds))),
        "retry-after-ms": str(max(1, math.ceil(seconds * 1000))),
    }
    return HttpError(429, "Model is overloaded", headers=headers)


def error_body(error: HttpError, family: str) -> dict[str, Any]:
    """Return an error's body in the form of a family."""
    message = error.message
    if family == "oip":
        return {"error": message}
    if family == "tei":
        kind = _TEI_TYPES.get(error.status, "Unhealthy" if error.status == 503 else "Backend")
        return {"error": message, "error_type": kind}
    kind = _OPENAI_TYPES.get(error.status, "invalid_request_error")
    if error.status >= 500:
        kind = "server_error"
    nested = {"message": message, "type": kind, "param": error.param, "code": error.code}
    if family == "cohere":
        return {"message": message, "detail": message, "error": nested}
    return {"error": nested}
