"""The server's metrics, for Prometheus."""

from bertrt.serving.context import Answering, Context
from bertrt.serving.message import Request, Response
from bertrt.serving.prometheus import choose_format

__all__ = ["metrics"]


async def metrics(context: Context, request: Request, answering: Answering) -> Response:
    """GET /metrics: Prometheus's text format or OpenMetrics. Also while models are loaded."""
    content_type = choose_format(request.headers.get("accept", ""))
    is_ready = context.is_ready and context.is_alive
    text = context.metrics.text(context.models, is_ready, content_type)
    return Response(text.encode(), content_type=content_type, headers={"vary": "accept"})
