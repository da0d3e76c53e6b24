"""Cross-origin requests: pages of other origins may call the server, if it says so.

Keys travel in headers that the page's own script sets, so no credentials of the browser are
allowed, and a page that has no key gets no answer.
"""

import re
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

from bertrt.serving.message import Application, Receive, Scope, Send

__all__ = ["ANY_ORIGIN", "Cors"]

ANY_ORIGIN = "*"

# Seconds for which a browser keeps the answer to a preflight.
_MAX_AGE = b"600"
# A cache must not give the answer for one origin to another.
_VARY = (b"vary", b"origin")
# Names of headers, as a browser lists them.
_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~-]+(?:\s*,\s*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)

Headers = list[tuple[bytes, bytes]]


class Cors:
    """An application, with the headers that let pages of some origins call it."""

    def __init__(self, app: Application, origins: Collection[str]) -> None:
        """Allow these origins, such as `https://example.com`; ANY_ORIGIN allows all."""
        self._app = app
        self._origins = {origin.lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or add the headers to the application's answer."""
        given = dict(scope["headers"])
        allowed = self._allow(given.get(b"origin", b""))
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in given:
            headers = [*allowed, *(_preflight(given) if allowed else []), _VARY]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *allowed, _VARY]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _allow(self, origin: bytes) -> Headers:
        """Return the headers that let a page of an origin read an answer; none for other ones."""
        if ANY_ORIGIN in self._origins:
            allowed = b"*"
        elif origin.decode("latin-1").lower() in self._origins:
            allowed = origin
        else:
            return []
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", b"*"),
        ]


def _preflight(given: Mapping[bytes, bytes]) -> Headers:
    """Return what else the answer to a preflight says."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-max-age", _MAX_AGE),
    ]
    # Clients have headers of their own; "*" would leave out `authorization`.
    wanted = given.get(b"access-control-request-headers", b"")
    if _NAMES.fullmatch(wanted):
        headers.append((b"access-control-allow-headers", wanted))
    return headers
