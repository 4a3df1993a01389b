"""The routes that every service has; the examples ask main-api, where they need no key."""

from __future__ import annotations

from api_docs.route import Route, Section

EVERY_SERVICE = Section(
    "Every service",
    "main-api",
    "Without keys.",
    (
        Route(
            "GET /",
            """
            curl -sS $API/
            """,
            """
            requests.get(f"{API}/").json()
            """,
            '{"message": "main-api is running.", "service": "main-api", "version": "...", "hostname": "...", '
            '"docs": "/docs"}',
        ),
        Route(
            "GET /live",
            """
            curl -sS $API/live
            """,
            """
            requests.get(f"{API}/live").json()
            """,
            '{"status": "live"}',
        ),
        Route(
            "GET /ready",
            """
            curl -sS $API/ready
            """,
            """
            requests.get(f"{API}/ready").json()
            """,
            '{"state": "ready", "details": {"dependencies": {"database": "ready", "bgrem": {"ready": 1}}}}',
            more="200 when `ready` or `busy`; the same body with 503 when `starting` or `defunct`.",
        ),
        Route(
            "GET /metrics",
            """
            curl -sS $API/metrics
            """,
            """
            requests.get(f"{API}/metrics").text
            """,
        ),
        Route(
            "GET /openapi.json",
            """
            curl -sS $API/openapi.json
            """,
            """
            sorted(requests.get(f"{API}/openapi.json").json()["paths"])
            """,
            '{"openapi": "3.1.0", "info": {"title": "main-api"}, "paths": {}}',
        ),
        Route(
            "GET /docs",
            """
            curl -sS $API/docs
            """,
            """
            requests.get(f"{API}/docs").text
            """,
        ),
    ),
)
