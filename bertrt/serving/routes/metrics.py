"""The server's metrics, for Prometheus."""

from bertrt.serving.context import Answering, Context
from bertrt.serving.message import Request, Response
from bertrt.serving.prometheus import CONTENT_TYPE

__all__ = ["metrics"]


async def metrics(context: Context, request: Request, answering: Answering) -> Response:
    """GET /metrics: Prometheus's text format 0.0.4. Also while models are loaded."""
    text = context.metrics.text(context.models, context.is_ready)
    return Response(text.encode(), content_type=CONTENT_TYPE)
