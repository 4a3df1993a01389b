"""The route that every service behind main-api has."""

from __future__ import annotations

from api_docs.route import Route


def status_route(port: int, answer: str) -> Route:
    """``GET /v1/status`` of the service at ``port``."""
    url = f"http://127.0.0.1:{port}/v1/status"
    return Route("GET /v1/status", f"curl -sS {url}", f'requests.get("{url}").json()', answer)


def status_answer(service: str, model: str) -> str:
    """A good answer, in which ``model`` is JSON of a model."""
    return (
        f'{{"service": "{service}", "hostname": "...", "state": "ready", "device": "cpu", "memory_kind": "host", '
        f'"memory_used_bytes": 2147483648, "memory_total_bytes": 8589934592, "models": [{model}], "queued": 0, '
        '"running": 0}'
    )


def network(name: str) -> str:
    """A network that is loaded, as JSON."""
    return f'{{"model_id": "{name}", "version": null, "tier": "resident"}}'
