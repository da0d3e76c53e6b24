"""The page for a browser: what is loaded, a box to try each model, and live figures."""

from functools import cache
from importlib import resources

from bertrt.serving.context import Answering, Context
from bertrt.serving.message import Request, Response
from bertrt.serving.routes import health

__all__ = ["root"]

# Nothing from outside, and no other page may frame it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


async def root(context: Context, request: Request, answering: Answering) -> Response:
    """GET /: the page if HTML is asked for; otherwise whether the server is ready."""
    accepted = request.headers.get("accept", "")
    if "text/html" not in accepted:
        return await health.ready(context, request, answering)
    headers = {"content-security-policy": _POLICY}
    return Response(_page(), content_type="text/html; charset=utf-8", headers=headers)


@cache
def _page() -> bytes:
    return resources.files("bertrt.serving").joinpath("page.html").read_bytes()
