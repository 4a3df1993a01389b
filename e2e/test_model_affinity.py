"""A model's pictures come from the backend that has the model at hand, through nginx and without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from gateways import Surroundings, gateway, opened, surroundings
from nginx_front import needs_nginx, nginx_before
from stand_in_service import StandIn, error_http, json_http, stand_in_service

MODELS = [f"Model-{number}" for number in range(21)]
"""An odd number: by turns, every second time each would be at the other backend."""
READ_TIMEOUT_S = 1
NGINX_AND_NONE = [pytest.param(True, id="nginx", marks=needs_nginx), pytest.param(False, id="addresses")]


@dataclass
class Backend:
    """A stand-in for dreambooth-api, which says who it is."""

    service: StandIn
    stack: ExitStack

    def answers(self) -> None:
        url = self.service.url
        self.service.answer = lambda seen: json_http({"images": [], "by": url})

    def is_full(self) -> None:
        self.service.answer = lambda seen: error_http(503, "queue_full", headers={"Retry-After": "7"})

    def kill(self) -> None:
        """No new connections, and an end of the ones there are."""
        self.stack.close()
        self.service.hang_up()


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("affinity")) as around:
        yield around


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    with ExitStack() as stack:
        started = []
        for _ in range(2):
            its_own = stack.enter_context(ExitStack())
            started.append(Backend(its_own.enter_context(stand_in_service()), its_own))
            started[-1].answers()
        yield started


@pytest.fixture(params=NGINX_AND_NONE)
def client(
    request: pytest.FixtureRequest, around: Surroundings, backends: list[Backend], tmp_path: Path
) -> Iterator[FlaskClient]:
    """Of a gateway whose dreambooth-api is nginx, or both backends themselves."""
    urls = [backend.service.url for backend in backends]
    with ExitStack() as stack:
        if request.param:
            urls = [stack.enter_context(nginx_before(urls, tmp_path, read_timeout_s=READ_TIMEOUT_S)).url]
        settings = around.settings(keys="off", dreambooth_urls=urls)
        app = stack.enter_context(gateway(settings))
        stores = stack.enter_context(opened(settings))
        for model in MODELS:
            stores.names.reserve("local", model)
        yield app.test_client()


def home(client: FlaskClient, model: str) -> str:
    """Which backend makes the model's picture."""
    answer = client.post("/v1/generations", json={"model_id": model, "prompt": "a sks chair"})
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return str(answer.json["by"])


def homes(client: FlaskClient) -> dict[str, str]:
    return {model: home(client, model) for model in MODELS}


def test_a_model_keeps_its_backend_and_others_have_the_other(client: FlaskClient, backends: list[Backend]) -> None:
    first = homes(client)
    assert set(first.values()) == {backend.service.url for backend in backends}
    assert [homes(client) for _ in range(2)] == [first, first]
    # And /inference goes where /v1/generations goes
    for backend in backends:
        backend.service.seen.clear()
    for model in MODELS:
        assert client.post("/inference", json={"model_id": model, "prompt": "a"}).status_code == 200
    for backend in backends:
        assert len(backend.service.seen) == list(first.values()).count(backend.service.url)


def test_a_backend_that_is_full_is_left_for_the_next_and_found_again(
    client: FlaskClient, backends: list[Backend]
) -> None:
    first = homes(client)
    backends[0].is_full()
    assert set(homes(client).values()) == {backends[1].service.url}
    # When both are, then that is the answer
    backends[1].is_full()
    answer = client.post("/inference", json={"model_id": MODELS[0], "prompt": "a"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    # When they are no longer, then every model is where it was
    for backend in backends:
        backend.answers()
    assert homes(client) == first


def test_a_backend_that_was_killed_is_left_for_the_next_and_only_its_models_move(
    client: FlaskClient, backends: list[Backend]
) -> None:
    homes(client)
    backends[0].kill()
    assert set(homes(client).values()) == {backends[1].service.url}


def test_requests_for_a_base_model_take_turns(client: FlaskClient, backends: list[Backend]) -> None:
    assert {home(client, "enlight/pocket") for _ in range(8)} == {backend.service.url for backend in backends}
