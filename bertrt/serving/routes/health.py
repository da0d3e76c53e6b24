"""Whether the server lives, and whether it is ready. Neither runs a model or waits in a queue."""

from bertrt.serving.context import Answering, Context
from bertrt.serving.message import Request, Response

__all__ = ["live", "ready"]


async def live(context: Context, request: Request, answering: Answering) -> Response:
    """GET /livez: the event loop answers, and every worker that was started lives."""
    return Response() if context.is_alive else _unavailable()


async def ready(context: Context, request: Request, answering: Answering) -> Response:
    """GET /health and /readyz: every model is loaded and lives, and the server is not draining."""
    return Response() if context.is_ready and context.is_alive else _unavailable()


def _unavailable() -> Response:
    return Response(
        b'{"error":"unhealthy","error_type":"Unhealthy"}', 503, headers={"retry-after": "1"}
    )
