"""The documentation that other tests do not look at: what is asked for by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from example_service import create_app


def test_the_first_readers_see_the_whole_document() -> None:
    app = create_app()
    with ThreadPoolExecutor(8) as pool:
        documents = set(pool.map(lambda _: app.test_client().get("/openapi.json").text, range(16)))
    assert len(documents) == 1
    assert '"413"' in documents.pop()
