"""Requests that schemathesis makes up from the OpenAPI document: answers conform, none is a fault.

The bodies are right by their schemas, or wrong on purpose. Their number is bounded, and the same
ones are made up each time.
"""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.models import Models

# An application without models gives the document too.
EMPTY = App(Context(Models([]), Limits()))
CONFIG = schemathesis.Config.from_dict(
    # A model that cannot do what is asked for is told before any field is read.
    {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}
)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", EMPTY, config=CONFIG)
schemathesis.checks.load_all_checks()
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
    ]
)


@pytest.fixture(scope="module")
def apps(served: Callable[[str], Any]) -> list[App]:
    """Applications with one model each, so that requests need not name it."""
    names = ("embedder", "reranker", "nli", "tagger")
    return [App(Context(Models([served(name)]), Limits())) for name in names]


@SCHEMA.parametrize()
@settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_made_up_requests(apps: list[App], case: schemathesis.Case) -> None:
    for app in apps:
        case.call_and_validate(app=app, checks=CHECKS)
