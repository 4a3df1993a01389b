"""What the services behind are asked for by `/v1/images`, what their trouble is to OpenAI's SDK, and what it costs."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import openai
import pytest
from gateways import Surroundings, opened, surroundings
from openai_gateway import Listening, listening_gateway
from PIL import Image
from stand_in_service import Seen, StandIn, error_http, http, json_http
from waiting import wait_until

from enlight.main_api.adapters.openai.images.masks import white_where_transparent
from enlight.servicekit.errors import InvalidField

POCKET = "enlight/pocket"
RUN_S = 3.0


def png(pixels: Any = None) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8) if pixels is None else pixels).save(encoded, "PNG")
    return encoded.getvalue()


def generated(seen: Seen) -> bytes:
    """What dreambooth-api says, three seconds of its GPU later."""
    asked = json.loads(seen.body)
    told = {
        "images": [base64.b64encode(png()).decode()] * asked.get("num_images", 1),
        "format": asked.get("format", "png"),
        "model_id": asked["model_id"],
        "model_version": None,
        "base_model": POCKET,
        "seed": asked.get("seed", 1),
        "num_inference_steps": 25,
        "guidance_scale": 7.5,
        "scheduler": "DDIMScheduler",
        "width": 8,
        "height": 8,
        "batch_images": 1,
        "cache_tier": "gpu",
        "queued_s": 0,
        "run_s": RUN_S,
    }
    return json_http(told, headers={"X-Run-Seconds": str(RUN_S)})


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("openai-behind")) as servers:
        yield servers


@pytest.fixture(autouse=True)
def behind(around: Surroundings) -> dict[str, StandIn]:
    for service in around.behind.values():
        service.seen.clear()
    around.behind["dreambooth"].answer = generated
    around.behind["bgrem"].answer = lambda seen: http(png(), content_type="image/png")
    return around.behind


@pytest.fixture(scope="module")
def listening(around: Surroundings) -> Iterator[Listening]:
    with listening_gateway(around) as running:
        yield running


def test_an_edit_is_asked_for_with_the_picture_and_a_mask_in_black_and_white(
    listening: Listening, behind: dict[str, StandIn]
) -> None:
    # Given a mask whose left half is transparent, and whose colours mean nothing
    mask = np.full((8, 8, 4), 255, np.uint8)
    mask[:, :4, 3] = 0
    mask[:, 4, 3] = 1  # nearly: it stays
    picture = png()
    # When a picture is edited
    own = {"strength": 0.5, "keep_unmasked": False, "seed": 4, "negative_prompt": "blurred"}
    listening.client().images.edit(
        model=POCKET, image=picture, mask=png(mask), prompt="a robot", n=2, size="64x32", extra_body=own
    )
    # Then dreambooth-api is asked for just that
    (seen,) = behind["dreambooth"].seen
    asked = json.loads(seen.body)
    painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(asked.pop("mask")))))
    assert painted.tolist() == [[255] * 4 + [0] * 4] * 8
    assert base64.b64decode(asked.pop("image")) == picture
    assert asked == {
        "model_id": POCKET,
        "prompt": "a robot",
        "num_images": 2,
        "width": 64,
        "height": 32,
        "format": "png",
        **own,
    }


def test_what_was_left_out_is_left_out_behind_the_gateway(listening: Listening, behind: dict[str, StandIn]) -> None:
    listening.client().images.generate(model=POCKET, prompt="a robot", size="auto")
    (seen,) = behind["dreambooth"].seen
    assert json.loads(seen.body) == {"model_id": POCKET, "prompt": "a robot", "num_images": 1, "format": "png"}


def test_a_transparent_picture_is_made_as_png_and_cut_out_in_its_format(
    listening: Listening, behind: dict[str, StandIn]
) -> None:
    listening.client().images.generate(model=POCKET, prompt="a", n=2, background="transparent", output_format="webp")
    assert json.loads(behind["dreambooth"].seen[0].body)["format"] == "png"
    assert [seen.path for seen in behind["bgrem"].seen] == ["/v1/cutout?model=u2net&format=webp"]  # equal ones once
    assert behind["bgrem"].seen[0].body == png()


def test_a_file_that_cannot_be_transparent_is_refused_before_anything_is_made(
    listening: Listening, behind: dict[str, StandIn]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        listening.client().images.generate(model=POCKET, prompt="a", background="transparent", output_format="jpeg")
    assert caught.value.param == "output_format"
    assert behind["dreambooth"].seen == []


def test_a_mask_without_a_transparent_part_is_refused() -> None:
    for pixels in (np.full((8, 8, 3), 0, np.uint8), np.full((8, 8, 4), 1, np.uint8)):
        with pytest.raises(InvalidField, match="mask"):
            white_where_transparent(png(pixels), "mask")


# Trouble


@pytest.mark.parametrize(
    ("answer", "status", "times"),
    [
        (lambda seen: error_http(503, "queue_full"), 503, 3),
        (lambda seen: b"", 502, 3),
        (lambda seen: error_http(500, "internal_error"), 500, 1),
        (lambda seen: error_http(503, "weights_unavailable"), 503, 1),
        (lambda seen: error_http(409, "conflict"), 409, 1),
    ],
    ids=["full", "gone", "a bug", "no weights", "a conflict"],
)
def test_the_sdk_tries_again_only_what_may_succeed(
    listening: Listening,
    behind: dict[str, StandIn],
    answer: Callable[[Seen], bytes],
    status: int,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a service with trouble, and an SDK that tries twice more, at once
    monkeypatch.setattr(openai.OpenAI, "_sleep_for_retry", lambda self, **_: None)
    behind["dreambooth"].answer = answer
    sent: list[object] = []
    hooks = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    # When it asks
    with pytest.raises(openai.APIStatusError) as caught:
        listening.client(max_retries=2, http_client=hooks).images.generate(model=POCKET, prompt="a robot")
    # Then only trouble that passes is asked for again
    assert caught.value.status_code == status
    assert caught.value.type == ("server_error" if status >= 500 else "invalid_request_error")
    assert len(sent) == times


def test_a_field_that_a_service_refuses_has_openai_s_name(listening: Listening, behind: dict[str, StandIn]) -> None:
    problems = [{"field": "width", "message": "must be a multiple of 8"}]
    refusal = {
        "message": "width: must be a multiple of 8",
        "error": {"code": "invalid_field", "details": {"fields": problems}, "request_id": "r"},
    }
    behind["dreambooth"].answer = lambda seen: json_http(refusal, status=422)
    with pytest.raises(openai.BadRequestError, match="size: must be a multiple of 8") as caught:
        listening.client().images.generate(model=POCKET, prompt="a robot", size="65x64")
    assert caught.value.param == "size"


# What it costs


def test_a_request_is_recorded_with_its_model_and_the_time_of_the_gpu(listening: Listening) -> None:
    raw = listening.client().images.with_raw_response.edit(model=POCKET, image=[png(), png()], prompt="a robot")
    request_id = raw.headers["X-Request-ID"]
    with opened(listening.settings) as stores:
        usage = stores.database["usage"]
        assert wait_until(lambda: usage.find_one({"request_id": request_id}) is not None)
        record = usage.find_one({"request_id": request_id})
    assert record is not None
    assert (record["route"], record["model"], record["gpu_seconds"]) == ("/v1/images/edits", POCKET, 2 * RUN_S)
    assert record["received_bytes"] > len(png())


def test_limits_are_told_as_openai_tells_them(around: Surroundings) -> None:
    with listening_gateway(around, requests_per_minute=1) as limited:
        client = limited.client()
        client.images.generate(model=POCKET, prompt="a robot")
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(model=POCKET, prompt="a robot")
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert int(caught.value.response.headers["Retry-After"]) > 0
    assert "X-Should-Retry" not in caught.value.response.headers


def test_without_gpu_seconds_nothing_is_made(around: Surroundings) -> None:
    with listening_gateway(around, gpu_seconds_per_hour=int(RUN_S)) as limited:
        limited.client().images.generate(model=POCKET, prompt="a robot")
        for path in ("generations", "edits"):
            refused = limited.ask("POST", f"/v1/images/{path}", json={"model": POCKET, "prompt": "a robot"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(around: Surroundings) -> None:
    with listening_gateway(around, max_buffered_bytes=100_000) as small:
        # Given a form that would fit once, but not with what is made of it, and that says nothing of use
        form = {"files": {"nothing": b"x" * 60_000}}
        refused = small.ask("POST", "/v1/images/edits", **form)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
        # And once it is over, everything is given back
        for _ in range(3):
            assert small.client().images.generate(model=POCKET, prompt="a robot").data


def test_a_picture_that_cannot_be_cut_out_is_bgrem_s_error(listening: Listening, behind: dict[str, StandIn]) -> None:
    behind["bgrem"].answer = lambda seen: error_http(503, "queue_full")
    with pytest.raises(openai.InternalServerError, match="No") as caught:
        listening.client().images.generate(model=POCKET, prompt="a robot", background="transparent")
    assert caught.value.code == "queue_full"


# Links


@pytest.mark.parametrize("host", ["pictures.example.org", "evil.example.com:1", "a b", "x/y?", '"><script>'])
def test_a_link_begins_with_the_public_url_whatever_a_client_calls_the_gateway(around: Surroundings, host: str) -> None:
    with listening_gateway(around, public_url="https://pictures.example.com") as running:
        body = {"model": POCKET, "prompt": "a robot", "response_format": "url"}
        answer = running.ask("POST", "/v1/images/generations", json=body, headers={"Host": host})
        assert answer.json()["data"][0]["url"].startswith("https://pictures.example.com/v1/images/files/pic-")


def test_without_one_a_link_begins_with_the_request_s_own_address(listening: Listening) -> None:
    body = {"model": POCKET, "prompt": "a robot", "response_format": "url"}
    for host, begin in (("pictures.example.org", "http://pictures.example.org/v1"), ('"><script>', None)):
        answer = listening.ask("POST", "/v1/images/generations", json=body, headers={"Host": host})
        if begin is None:
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        else:
            assert answer.json()["data"][0]["url"].startswith(begin)
