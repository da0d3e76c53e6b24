"""The ASGI application: find the route, read the request, answer or say what is wrong.

It is one callable, which uvicorn runs and which other ASGI applications can mount.
"""

import asyncio
import hmac
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from bertrt.serving.context import Answering, Context, Finished
from bertrt.serving.errors import HttpError, error_body, http_error, status_in
from bertrt.serving.message import Receive, Request, Response, Send, json_response, read_body
from bertrt.serving.metrics import NO_MODEL, NO_ROUTE, rejection
from bertrt.serving.routes import (
    document,
    health,
    hugging_face,
    metrics,
    open_inference,
    openai,
    page,
    predict,
    rerank,
    tei,
)

__all__ = ["ROUTES", "App", "Route", "Routes", "split_model"]

_log = logging.getLogger(__name__)

Handler = Callable[[Context, Request, Answering], Awaitable[Response]]

# The status, for metrics alone, of a request whose client went away.
_GONE = 499
# A model's path in OpenAI's API, and in the Open Inference Protocol.
_OPENAI_MODEL = re.compile(r"/v1/models/(?P<name>.+)", re.DOTALL)
_OIP_MODEL = re.compile(
    r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<rest>(?:/.*)?)", re.DOTALL
)

# The ids of requests that are echoed; others are replaced.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Route:
    """A route.

    Attributes:
        handler: what answers.
        family: the form of its errors.
        is_open: whether it needs no key, and answers while models are loaded.
        is_keyed: whether it needs a key even if it is open.
    """

    handler: Handler
    family: str = "tei"
    is_open: bool = False
    is_keyed: bool = False


Routes = Mapping[tuple[str, str], Route]


ROUTES: Routes = {
    ("GET", "/livez"): Route(health.live, is_open=True),
    **{
        ("GET", path): Route(health.ready, is_open=True) for path in ("/health", "/ping", "/readyz")
    },
    ("GET", "/"): Route(page.root, is_open=True),
    ("GET", "/metrics"): Route(metrics.metrics, is_open=True),
    **{
        ("GET", path): Route(document.openapi, is_open=True)
        for path in ("/openapi.json", "/api-doc/openapi.json")
    },
    ("GET", "/info"): Route(tei.info),
    ("POST", "/"): Route(hugging_face.root),
    ("POST", "/invocations"): Route(hugging_face.root),
    ("POST", "/vertex"): Route(hugging_face.vertex),
    ("POST", "/embed"): Route(tei.embed),
    ("POST", "/embed_all"): Route(tei.embed_all),
    ("POST", "/embed_sparse"): Route(tei.embed_sparse),
    ("POST", "/predict"): Route(tei.predict),
    ("POST", "/rerank"): Route(rerank.rerank_bare),
    ("POST", "/similarity"): Route(tei.similarity),
    ("POST", "/tokenize"): Route(tei.tokenize),
    ("POST", "/decode"): Route(tei.decode),
    ("GET", "/models"): Route(openai.models, "openai"),
    ("POST", "/classify"): Route(rerank.classify),
    **{
        ("POST", path): Route(openai.embeddings, "openai")
        for path in ("/v1/embeddings", "/embeddings", "/openai/v1/embeddings")
    },
    ("POST", "/v1/predict"): Route(predict.predict, "openai"),
    ("GET", "/v1/models"): Route(openai.models, "openai"),
    ("GET", "/v1/models/*"): Route(openai.model, "openai"),
    ("POST", "/v1/rerank"): Route(rerank.rerank, "cohere"),
    ("POST", "/v2/rerank"): Route(rerank.rerank, "cohere"),
    ("GET", "/v2"): Route(open_inference.server, "oip"),
    ("GET", "/v2/health/live"): Route(health.live, "oip", is_open=True),
    ("GET", "/v2/health/ready"): Route(health.ready, "oip", is_open=True),
    ("GET", "/v2/models/*"): Route(open_inference.model, "oip"),
    ("GET", "/v2/models/*/ready"): Route(open_inference.ready, "oip"),
    ("POST", "/v2/models/*/infer"): Route(open_inference.infer, "oip"),
}


class App:
    """The ASGI application."""

    def __init__(
        self,
        context: Context,
        api_keys: Sequence[str] = (),
        routes: Routes = ROUTES,
        on_finished: Callable[[Finished], None] | None = None,
    ) -> None:
        """Answer with these models.

        Args:
            context: the models, and the limits.
            api_keys: requests need one of them, if there are any.
            routes: what is answered.
            on_finished: called after each request, for traces.
        """
        self._context = context
        self._on_finished = on_finished
        self._routes = routes
        self._paths = {path for _, path in routes}
        self._keys = [sha256(key.encode()).digest() for key in api_keys]
        # What runs a model is posted.
        context.metrics.expect(routes=[path for method, path in routes if method == "POST"])

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        # Where another application has mounted this one, the path begins with the mount's.
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        method = scope["method"]
        response = await self._answer(method, path, headers, receive, started)
        given = headers.get("x-request-id", "")
        echoed = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        response.headers.setdefault("x-request-id", echoed)
        if self._context.is_draining:
            # So that no client sends another request just when the connection is closed.
            response.headers["connection"] = "close"
        await _send(response, send, with_body=method != "HEAD")

    async def _answer(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        receive: Receive,
        started: float,
    ) -> Response:
        family = _family(path)
        label = NO_ROUTE
        reason = None
        answering = Answering()
        try:
            model, version, inner = split_model(path)
            # A HEAD is answered as its GET is, without the body.
            method = "GET" if method == "HEAD" else method
            route = self._route(method, inner)
            label = inner
            family = route.family
            if route.is_keyed or not route.is_open:
                self._check_key(headers)
            if route.is_open and model is not None:
                self._check_name(model)
            if not (route.is_open or self._context.is_ready or self._context.is_draining):
                raise HttpError(503, "the server is not ready", headers={"retry-after": "1"})
            limits = self._context.limits
            body = b"" if method == "GET" else await read_body(receive, headers, limits.body)
            deadline = time.monotonic() + limits.seconds
            request = Request(method, inner, headers, body, model, version, deadline)
            answer = route.handler(self._context, request, answering)
            response = await _unless_gone(self._context, answer, receive)
            if response.status == _GONE:
                reason = rejection(_GONE)
        except (Exception, asyncio.CancelledError) as error:
            # The server cancels what it has no time left for.
            found = http_error(error, family)
            # While it is ready, a 503 says that a model's thread has died: our own fault.
            is_fault = found.status == 503 and self._context.is_ready
            reason = None if is_fault else rejection(found.status)
            found.status = status_in(family, found.status)
            if found.status == 500:
                # Without the error's own message, which may hold a text.
                where = "".join(traceback.format_tb(error.__traceback__))
                _log.error("%s failed with %s\n%s", label, type(error).__name__, where)
            response = await json_response(error_body(found, family))
            response.status = found.status
            response.headers |= found.headers
        seconds = time.perf_counter() - started
        answering.add_headers(response, seconds)
        name = NO_MODEL if answering.model is None else answering.model.name
        self._context.metrics.request(label, name, response.status, seconds)
        if reason is not None:
            self._context.metrics.reject(name, reason)
        if self._on_finished is not None:
            self._on_finished(
                Finished(method, headers, label, response.status, answering, started, seconds)
            )
        return response

    def _route(self, method: str, path: str) -> Route:
        """Return the route of a path. Raises HttpError if there is none."""
        if (route := self._routes.get((method, path))) is not None:
            return route
        if path not in self._paths:
            raise HttpError(404, "there is no such route")
        methods = {name for name, known in self._routes if known == path}
        allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        raise HttpError(405, f"this route takes {allowed}", headers={"allow": allowed})

    def _check_name(self, name: str) -> None:
        """Raise HttpError if the name in the path's prefix is of none of the models, once loaded.

        The error does not list them: a route that needs no key tells nobody what is loaded.
        """
        names = {model.name for model in self._context.models}
        if names and name not in names:
            raise HttpError(404, "no model has the name in the path", "model", "model_not_found")

    def _check_key(self, headers: Mapping[str, str]) -> None:
        """Raise HttpError unless the request has one of the keys, if there are any."""
        if not self._keys:
            return
        given = headers.get("x-api-key") or headers.get("authorization", "")
        scheme, _, rest = given.partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" and rest else given
        digest = sha256(key.encode("latin-1", "replace")).digest()
        # All keys are compared, in constant time.
        if not sum(hmac.compare_digest(digest, known) for known in self._keys):
            raise HttpError(
                401,
                "the API key is missing or wrong",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def split_model(path: str) -> tuple[str | None, str | None, str]:
    """Return the model that a path names, its version, and the path of the route.

    `/models/NAME/…` has the route `/…`, `/v1/models/NAME` the route `/v1/models/*`, and
    `/v2/models/NAME[/versions/VERSION]…` the route `/v2/models/*…`.
    """
    name = None
    if path.startswith("/models/"):
        name, _, rest = path.removeprefix("/models/").partition("/")
        path = f"/{rest}"
    if found := _OPENAI_MODEL.fullmatch(path):
        return found["name"], None, "/v1/models/*"
    if found := _OIP_MODEL.fullmatch(path):
        return found["name"], found["version"], f"/v2/models/*{found['rest']}"
    return name, None, path


def _family(path: str) -> str:
    """Return the family whose form an error has before its route is known."""
    if path.endswith("/rerank") and path.startswith(("/v1/", "/v2/")):
        return "cohere"
    if path.startswith("/v2"):
        return "oip"
    return "openai" if path.startswith(("/v1/", "/openai/")) else "tei"


async def _unless_gone(context: Context, answer: Awaitable[Response], receive: Receive) -> Response:
    """Return an answer, and cancel the work for it if the client goes away first.

    A server that has mounted the application may cancel it for that reason by itself, as Ray Serve
    does.
    """
    work = asyncio.current_task()
    is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        if work is not None:
            work.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await answer
    except asyncio.CancelledError:
        told = is_gone and not (work is not None and work.uncancel())
        if context.is_draining and not told:
            raise  # the server has no time left
        # Nobody reads this answer.
        return Response(status=_GONE)
    finally:
        watching.cancel()


async def _send(response: Response, send: Send, *, with_body: bool) -> None:
    # Nothing has no type.
    kind = {"content-type": response.content_type} if response.body else {}
    headers = {
        **kind,
        "content-length": str(len(response.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **response.headers,
    }
    pairs = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": pairs})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})
