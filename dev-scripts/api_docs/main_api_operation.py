"""main-api: what who runs the machines wants to see."""

from __future__ import annotations

from api_docs.route import Errors, Route

from enlight.servicekit.errors import Forbidden

_OTHERS: Errors = ((Forbidden, "another tenant's or all tenants', and your key's scope is not `admin`"),)

OPERATION: tuple[Route, ...] = (
    Route(
        "GET /v1/workers",
        """
        curl -sS $API/v1/workers
        """,
        """
        for worker in requests.get(f"{API}/v1/workers").json()["workers"]:
            print(worker["id"], worker["state"], worker["resident_models"])

        """,
        '{"workers": [{"id": "dreambooth-api@127.0.0.1:5000", "service": "dreambooth-api", "host": "...", '
        '"url": "http://127.0.0.1:5000", "state": "ready", "device": "cpu", "memory_kind": "host", '
        '"memory_used_bytes": 2147483648, "memory_total_bytes": 8589934592, "resident_models": [], "queued": 0, '
        '"running": 0, "training_id": null, "seen_at": "2026-11-27T09:30:00Z"}], "queue": {"queued": 0, "running": 0}}',
        more="Where a service's address is that of a balancer, `MAIN_API_DREAMBOOTH_INSTANCE_URLS` and its like name "
        "the processes themselves.",
        errors=((Forbidden, "your key's scope is not `admin`"),),
    ),
    Route(
        "GET /v1/stats",
        """
        curl -sS "$API/v1/stats?hours=3"
        """,
        """
        stats = requests.get(f"{API}/v1/stats", params={"hours": 3, "all_tenants": True}).json()
        """,
        '{"from": "2026-11-27T06:30:00Z", "to": "2026-11-27T09:30:12Z", "step_s": 60, "series": '
        '[{"at": "2026-11-27T06:30:00Z", "requests": 3, "errors": 0, "p50_s": 0.012, "p95_s": 1.63}], "routes": '
        '[{"route": "/v1/cutout", "requests": 3, "errors": 0, "cache_hits": 1, "cache_misses": 2, "p50_s": 0.41, '
        '"p95_s": 0.6}], "trainings": {"queued": 0, "running": 0, "succeeded": 2, "failed": 0, "cancelled": 1}}',
        more="Spans are a minute up to 3 hours, ten minutes up to 33, then an hour.",
        errors=_OTHERS,
    ),
    Route(
        "GET /v1/errors",
        """
        curl -sS "$API/v1/errors?limit=20"
        """,
        """
        requests.get(f"{API}/v1/errors", params={"limit": 20}).json()
        """,
        '{"errors": [{"at": "2026-11-27T09:30:12.345Z", "request_id": "...", "method": "GET", '
        '"route": "/v1/trainings/<training_id>", "status": 404, "code": "not_found", "message": "...", "requests": 1, '
        '"tenant": "local"}], "next": null}',
        errors=_OTHERS,
    ),
)
