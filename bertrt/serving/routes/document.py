"""The description of all routes, for programs that read OpenAPI."""

from functools import cache
from importlib import resources

from bertrt.serving.context import Answering, Context
from bertrt.serving.message import Request, Response

__all__ = ["openapi"]


async def openapi(context: Context, request: Request, answering: Answering) -> Response:
    """GET /openapi.json and, as TEI has it, /api-doc/openapi.json: the OpenAPI 3.1 document.

    It is the same for every server and names no model, so it needs no key.
    """
    return Response(_document())


@cache
def _document() -> bytes:
    return resources.files("bertrt.serving").joinpath("openapi.json").read_bytes()
