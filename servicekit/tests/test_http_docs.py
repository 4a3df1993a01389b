"""The documentation that other tests do not look at: what is asked for by many at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from example_service import create_app


def test_the_document_is_made_once_however_many_ask_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a document that takes a while to make
    app = create_app()
    made: list[float] = []
    generate: Callable[[], None] = app.generate_spec_json

    def generate_slowly() -> None:
        made.append(time.monotonic())
        time.sleep(0.1)
        generate()

    monkeypatch.setattr(app, "generate_spec_json", generate_slowly)

    # When many ask for it at the same moment
    with ThreadPoolExecutor(8) as pool:
        documents = set(pool.map(lambda _: app.test_client().get("/openapi.json").text, range(8)))

    # Then it is made once, and nobody sees it half made
    assert len(made) == 1
    assert len(documents) == 1
    assert '"413"' in documents.pop()
