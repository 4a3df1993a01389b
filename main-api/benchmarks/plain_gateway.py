"""The peer of the benchmark: a gateway as it is usually written, with Flask's request.json, requests and jsonify."""

from __future__ import annotations

import requests
from flask import Flask, Response, jsonify, request


def create_app(upstream_url: str) -> Flask:
    """A gateway for one route of one service."""
    app = Flask(__name__)
    session = requests.Session()

    @app.get("/ready")
    def ready() -> Response:
        return jsonify({"state": "ready"})

    @app.post("/remove")
    def remove() -> Response:
        answer = session.post(f"{upstream_url}/remove", json=request.json, timeout=600)
        return jsonify(answer.json())

    return app
