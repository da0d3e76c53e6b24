"""Which routes answer where: /metrics may need a key, or have a port of its own."""

from dataclasses import replace

from bertrt.serving.app import ROUTES, Routes

__all__ = ["metrics_routes", "public_routes"]

_METRICS = ("GET", "/metrics")
_PROBES = [("GET", path) for path in ("/livez", "/readyz", "/health", "/ping")]


def metrics_routes(*, needs_key: bool) -> Routes:
    """Return what a port for metrics alone has: /metrics and the probes."""
    metrics = replace(ROUTES[_METRICS], is_keyed=needs_key)
    return {_METRICS: metrics, **{probe: ROUTES[probe] for probe in _PROBES}}


def public_routes(*, metrics: bool, needs_key: bool) -> Routes:
    """Return the routes of the server's own port, with /metrics or without it."""
    others = {key: route for key, route in ROUTES.items() if key != _METRICS}
    if not metrics:
        return others
    return {**others, _METRICS: metrics_routes(needs_key=needs_key)[_METRICS]}
