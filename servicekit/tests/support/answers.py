"""What tests say about answers, in every service."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse


def assert_error(response: TestResponse, status: int, code: str, *fields: str) -> dict[str, Any]:
    """The response is the one error body with this status and code, naming ``fields``. Returns the body."""
    body = response.json
    assert response.status_code == status, f"{response.status_code} {response.text[:500]}"
    assert isinstance(body, dict)
    error = body["error"]
    assert error["code"] == code, body
    assert isinstance(body["message"], str)
    assert body["message"]
    assert error["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(error["details"], dict)
    assert "Traceback" not in response.text
    if fields:
        assert [problem["field"] for problem in error["details"]["fields"]] == list(fields)
        assert body["message"].startswith(fields[0])
    return body
