"""Ray Serve adds the header x-request-id to each answer, and so does the application."""

from collections.abc import MutableMapping
from typing import Any

from bertrt.serving.message import Application, Receive, Scope, Send

__all__ = ["OneRequestId"]


class OneRequestId:
    """An application whose answers leave the id to the server around it."""

    def __init__(self, app: Application) -> None:
        """Answer with an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_without_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                pairs = message["headers"]
                message["headers"] = [pair for pair in pairs if pair[0] != b"x-request-id"]
            await send(message)

        await self._app(scope, receive, send_without_id)
