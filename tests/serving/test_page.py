"""The page for a browser: only where HTML is asked for, and without anything from outside."""

import re
from collections.abc import Callable
from typing import Any


def test_only_for_a_browser(client: Callable[..., Any]) -> None:
    http = client("embedder")
    page = http.get("/", accept="text/html,application/xhtml+xml")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert http.get("/").body == http.get("/", accept="*/*").body == b""


def test_nothing_from_outside(client: Callable[..., Any]) -> None:
    text = client("embedder").get("/", accept="text/html").body.decode()
    assert not re.findall(r"https?://|src=|href=|@import|url\(", text)
