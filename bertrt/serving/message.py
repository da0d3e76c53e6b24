"""A request and a response, apart from any server."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from bertrt.serving.errors import HttpError
from bertrt.serving.json_pieces import write_pieces

__all__ = [
    "Application",
    "Receive",
    "Request",
    "Response",
    "Scope",
    "Send",
    "json_response",
    "off_loop",
    "read_body",
]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_T = TypeVar("_T")

# More bytes are read and written in a thread, so that the event loop is not held.
_LARGE = 1 << 16
_UNREAD = object()


@dataclass
class Request:
    """A request.

    Attributes:
        method, path: as they came; the path without the prefix of a model.
        headers: by lower-case name; of repeated headers the last.
        body: decompressed.
        model: the name of the model in the path's prefix `/models/NAME`; None without one.
        version: the model's version in a path of the Open Inference Protocol; None without one.
        deadline: the `time.monotonic()` by which the answer has to begin.
        parsed: the body as JSON, once it was read.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    model: str | None = None
    version: str | None = None
    deadline: float | None = None
    parsed: Any = field(default=_UNREAD, repr=False)

    async def json(self) -> Any:
        """Return the body as JSON. Raises HttpError for another type of content and for no JSON."""
        if self.parsed is not _UNREAD:
            return self.parsed
        content_type = self.headers.get("content-type", "application/json").partition(";")[0]
        kind = content_type.strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise HttpError(415, "the content-type is not application/json")
        try:
            self.parsed = await off_loop(len(self.body), lambda: orjson.loads(self.body))
            return self.parsed
        except orjson.JSONDecodeError as error:
            # Without the parser's own message, which may quote the text.
            raise HttpError(400, f"the body is not JSON (at byte {error.pos})") from None


@dataclass
class Response:
    """An answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


async def json_response(value: Any, *, size: int = 0, **headers: str) -> Response:
    """Return a JSON answer; numpy arrays are lists of numbers that give each float32 back.

    Args:
        value: what to write.
        size: about how many bytes it has; many are written in a thread.
        headers: names with underscores in place of hyphens.
    """
    if size > _LARGE:
        body = await asyncio.to_thread(lambda: b"".join(write_pieces(value)))
    else:
        body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers={name.replace("_", "-"): text for name, text in headers.items()})


async def off_loop(size: int, function: Callable[[], _T]) -> _T:
    """Call a function, in a thread if it has to do with many bytes."""
    return await asyncio.to_thread(function) if size > _LARGE else function()


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """Read a request's body, decompressed.

    Raises HttpError for one of more than `limit` bytes, before or after decompression, for an
    unknown or damaged encoding, and if the client goes away.
    """
    length = headers.get("content-length", "")
    # As text first: int() refuses thousands of digits.
    digits = length.lstrip("0") if length.isascii() and length.isdigit() else ""
    if len(digits) > 18 or int(digits or 0) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpError(400, "the client closed the connection before the body ended")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
    body = b"".join(parts)
    name = headers.get("content-encoding", "identity").strip().lower()
    if name in ("identity", ""):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        problem = "the content-encoding is neither gzip nor deflate"
        raise HttpError(415, problem, headers={"accept-encoding": "gzip, deflate"})
    # It may be as large as the limit, however small it is now.
    return await asyncio.to_thread(_decompress, body, name, limit)


def _decompress(body: bytes, name: str, limit: int) -> bytes:
    # gzip's window bits with its header, and zlib's for deflate.
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | (16 if "gzip" in name else 0))
    try:
        plain = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise HttpError(400, f"the body is not valid {name}") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not decompressor.eof or decompressor.unused_data:
        raise HttpError(400, f"the body is not valid {name}")
    return plain


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes")
