"""The training routes for a real gunicorn; what they stand on is named by ``TRAINING_TEST_*``."""

from __future__ import annotations

import os
from pathlib import Path

from flask_openapi import OpenAPI
from training_gateway import TENANT_HEADER, Connections, build

__all__ = ["TENANT_HEADER", "gunicorn_app"]


def gunicorn_app() -> OpenAPI:
    """One gateway of the test's database and bucket."""
    connections = Connections(
        mongo_url=os.environ["TRAINING_TEST_MONGO_URL"],
        queue_url=os.environ["TRAINING_TEST_QUEUE_URL"],
        database=os.environ["TRAINING_TEST_DATABASE"],
        folder=Path(os.environ["TRAINING_TEST_FOLDER"]),
    )
    gate = build(connections)
    gate.service.start()
    return gate.app
