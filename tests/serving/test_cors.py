"""Cross-origin requests, by the rules that a browser follows."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bertrt.cli import main
from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.cors import Cors
from bertrt.serving.models import Models

ORIGIN, OTHER = "https://example.com", "https://example.com.evil.org"
BODY = {"inputs": "a"}


@pytest.fixture
def client(
    served: Callable[[str], Any], make_client: Callable[[Any], Any]
) -> Callable[[list[str]], Any]:
    """A factory: origins to a client of an application that allows them."""

    def make(origins: list[str]) -> Any:
        app = App(Context(Models([served("embedder")]), Limits()), ["key"])
        return make_client(Cors(app, origins) if origins else app)

    return make


def may_read(headers: Mapping[str, str], origin: str) -> bool:
    """Whether a browser shows an answer to a page of an origin."""
    return headers.get("access-control-allow-origin") in ("*", origin)


def may_send(client: Any, origin: str, method: str, names: str) -> bool:
    """Whether a browser sends a request after it has asked."""
    answer = client.request(
        "OPTIONS",
        "/embed",
        b"",
        {
            "origin": origin,
            "access-control-request-method": method,
            "access-control-request-headers": names,
        },
    )
    allowed = answer.headers.get("access-control-allow-headers", "").split(",")
    return (
        answer.status in (200, 204)
        and may_read(answer.headers, origin)
        and method in answer.headers["access-control-allow-methods"].split(", ")
        and set(names.split(",")) <= {name.strip() for name in allowed}
    )


@pytest.mark.parametrize("origins", [[ORIGIN], ["http://localhost:3000", ORIGIN], ["*"]])
def test_an_allowed_origin(client: Any, origins: list[str]) -> None:
    called = client(origins)
    # As OpenAI's client for browsers sends them.
    names = "authorization,content-type,x-stainless-lang"
    assert may_send(called, ORIGIN, "POST", names)
    assert not may_send(called, ORIGIN, "DELETE", names)
    for key, status in [("key", 200), ("", 401)]:
        answer = called.post("/embed", BODY, origin=ORIGIN, authorization=f"Bearer {key}")
        assert answer.status == status
        assert may_read(answer.headers, ORIGIN)
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origins", [[], [ORIGIN]])
@pytest.mark.parametrize("origin", [OTHER, "null", "http://example.com", "https://example.com:1"])
def test_another_origin(client: Any, origins: list[str], origin: str) -> None:
    called = client(origins)
    assert not may_send(called, origin, "POST", "content-type")
    answer = called.post("/embed", BODY, origin=origin, authorization="key")
    assert answer.status == 200
    assert not may_read(answer.headers, origin)


def test_none_are_allowed_by_default(client: Any) -> None:
    answer = client([]).post("/embed", BODY, origin=ORIGIN, authorization="key")
    assert not [name for name in answer.headers if name.startswith(("access-control", "vary"))]


def test_a_client_that_is_no_browser_is_answered_as_ever(client: Any) -> None:
    called = client([ORIGIN])
    answer = called.post("/embed", BODY, authorization="key")
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
    assert called.request("OPTIONS", "/embed", b"", {}).status == 405


def test_names_of_headers_are_not_given_back_as_they_are(client: Any) -> None:
    for names in ("a b", "a,,b", "a\x00", "a:b", "é"):
        assert not may_send(client([ORIGIN]), ORIGIN, "POST", names)


@pytest.mark.parametrize(
    "origin",
    ["example.com", "https://example.com/", "https://a b", "https://", "null", "", "https://u@h"],
)
def test_what_is_no_origin_is_refused(origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "x", "--cors-origin", origin])
    assert ended.value.code == 2
    assert f"{origin!r} is not an origin" in capsys.readouterr().err
