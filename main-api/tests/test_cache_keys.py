"""Keys of the cache: equal exactly when everything that an answer depends on is."""

from __future__ import annotations

import itertools
import re
from typing import Any

from enlight.main_api.cache.cache_keys import metadata_key, rate_key, response_key

PARTS: dict[str, Any] = {
    "tenant": "acme",
    "route": "/v1/cutout",
    "query": [("format", "png"), ("size", "1"), ("size", "2")],
    "model_version": "v1",
    "body_sha256": "0" * 64,
    "code_version": "1.0",
    "content_type": "image/png",
    "accept": "*/*",
}


def test_a_key_is_stable_and_of_this_format() -> None:
    # A changed digest means that every kept answer is lost: then the format's number has to change as well.
    digest = "c0f41c0665eba2454f21ab878d3f86892755b75a31e27e76ae4ceb8c1b97f3b5"
    assert response_key(**PARTS) == f"enlight:v1:response:{digest}"
    assert response_key(**PARTS) == response_key(**PARTS | {"query": iter(PARTS["query"])})


def test_every_part_counts() -> None:
    others = [PARTS | {name: "other"} for name in PARTS if name != "query"]
    queries: list[list[tuple[str, str]]] = [
        [],
        [("format", "png"), ("size", "2"), ("size", "1")],  # of repeated parameters the order counts
        [("format", "png"), ("size", "1")],
        [("format", "png"), ("size", "12")],
        [("format=png&size", "1"), ("size", "2")],
    ]
    keys = [response_key(**parts) for parts in [PARTS, *others, *(PARTS | {"query": query} for query in queries)]]
    for one, other in itertools.combinations(keys, 2):
        assert one != other


def test_the_order_of_different_parameters_does_not_count() -> None:
    turned = PARTS | {"query": [("size", "1"), ("format", "png"), ("size", "2")]}
    assert response_key(**turned) == response_key(**PARTS)


def test_parts_do_not_run_into_each_other() -> None:
    assert metadata_key(tenant="a", kind="model", name="b:c") != metadata_key(tenant="a:b", kind="model", name="c")
    assert metadata_key(tenant="a", kind="model", name="b") != metadata_key(tenant="a", kind="alias", name="b")
    assert rate_key(tenant="a", what="requests", window_s=60) != rate_key(tenant="a", what="requests", window_s=6)
    assert response_key(**PARTS | {"tenant": "a", "route": "b"}) != response_key(
        **PARTS | {"tenant": "ab", "route": ""}
    )


def test_what_a_client_chose_does_not_stand_in_a_key() -> None:
    strange = "\r\nFLUSHALL\r\n{x}\ud800"
    for key in (
        response_key(**PARTS | {"query": [(strange, strange)]}),
        metadata_key(tenant=strange, kind="model", name=strange),
        rate_key(tenant=strange, what="requests", window_s=60),
    ):
        assert re.fullmatch(r"[a-z0-9:_]+", key)
