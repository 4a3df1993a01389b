"""`/v1/images` and `/v1/models` as OpenAI's own SDK asks for them, of a gateway that listens."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import openai
import pytest
import quick_services
import requests
from flask_openapi import OpenAPI
from gateways import MODELS_FOLDER, opened, surroundings
from openai import OpenAI
from openai_gateway import Listening, listening_gateway
from PIL import Image
from small_models import publish, write_lora

from enlight.main_api.adapters.openai.images.picture_links import LINK_S, PictureLinks
from enlight.main_api.gallery.records import PictureRecords

POCKET = "enlight/pocket"
SIDE_PX = quick_services.SIDE_PX


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("openai")
    with ExitStack() as stack:
        around = stack.enter_context(surroundings(folder))

        def served(app: OpenAPI) -> list[str]:
            return [stack.enter_context(quick_services.served(app))]

        listening = stack.enter_context(
            listening_gateway(
                around,
                max_pictures=8,
                dreambooth_urls=served(quick_services.dreambooth(MODELS_FOLDER, folder / "dreambooth")),
                bgrem_urls=served(quick_services.bgrem()),
            )
        )
        with opened(listening.settings) as stores:
            bucket_id = stores.names.reserve("anna", "Robot")
            publish(stores.models, bucket_id, write_lora(folder / "robot", seed=1), "lora")
        yield listening


def kept_pictures(running: Listening) -> list[dict[str, Any]]:
    """The tenant's, newest first."""
    return list(running.ask("GET", "/v1/pictures").json()["pictures"])


def remove_pictures(running: Listening) -> None:
    for picture in kept_pictures(running):
        assert running.ask("DELETE", f"/v1/pictures/{picture['id']}").status_code == 204


@pytest.fixture
def client(running: Listening) -> OpenAI:
    return running.client()


def png(pixels: Any = None) -> bytes:
    """A picture's file; by default a grey one of the pocket base's size."""
    encoded = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8) if pixels is None else pixels).save(encoded, "PNG")
    return encoded.getvalue()


def mask_png(*, hole: bool = True) -> bytes:
    """A mask as OpenAI wants it, whose left half is transparent."""
    pixels = np.full((64, 64, 4), 255, np.uint8)
    if hole:
        pixels[:, :32, 3] = 0
    return png(pixels)


def opened_picture(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    picture = Image.open(io.BytesIO(base64.b64decode(b64_json)))
    picture.load()
    return picture


# Generations


def test_pictures_of_a_model_come_as_the_sdk_reads_them(client: OpenAI) -> None:
    began_s = int(time.time())
    # When the SDK asks for pictures, with what only this service takes in extra_body
    answer = client.images.generate(
        model="Robot", prompt="a sks robot", n=3, size="64x64", output_format="webp", extra_body={"seed": 7}
    )
    # Then they are there, and what ran is told
    assert began_s <= answer.created <= time.time()
    assert (answer.background, answer.output_format, answer.size) == ("opaque", "webp", f"{SIDE_PX}x{SIDE_PX}")
    assert answer.data is not None
    assert [opened_picture(each.b64_json).format for each in answer.data] == ["WEBP"] * 3
    told = answer.model_dump()
    assert (told["model"], told["model_version"]) == ("Robot", "01ABC")
    assert [each["seed"] for each in told["data"]] == [7, 8, 9]
    assert [each.url for each in answer.data] == [None] * 3


def test_what_openai_takes_and_what_is_null_changes_nothing(client: OpenAI) -> None:
    answer = client.images.generate(
        model=POCKET,
        prompt="a robot",
        n=None,
        size="auto",
        background="auto",
        quality="high",
        style="vivid",
        moderation="low",
        output_compression=80,
        response_format=None,
        stream=False,
        partial_images=0,
        user="someone",
        safety_identifier="someone",
    )
    assert answer.data is not None
    assert len(answer.data) == 1


def test_all_parameters_reach_the_service_that_makes_the_pictures(running: Listening, client: OpenAI) -> None:
    # Given one that is kept, with all that it was made with
    own = {"seed": 2**53 + 1, "negative_prompt": "blurred", "num_inference_steps": 3, "guidance_scale": 2.5}
    answer = client.images.generate(
        model=POCKET, prompt="a robot in the snow", response_format="url", output_format="jpeg", extra_body=own
    )
    assert answer.data is not None
    (picture,) = kept_pictures(running)
    # Then it was made so
    kept = picture["parameters"]
    assert kept["seed"] == str(own["seed"])
    assert {name: kept[name] for name in own if name != "seed"} == {
        name: value for name, value in own.items() if name != "seed"
    }
    assert (kept["prompt"], kept["format"], picture["content_type"]) == ("a robot in the snow", "jpeg", "image/jpeg")
    remove_pictures(running)


def test_a_transparent_background_is_a_cut_out(running: Listening) -> None:
    raw = running.client().images.with_raw_response.generate(
        model=POCKET, prompt="a robot", n=2, background="transparent", output_format="webp", extra_body={"seed": 1}
    )
    answer = raw.parse()
    assert (answer.background, answer.output_format) == ("transparent", "webp")
    assert answer.data is not None
    assert [opened_picture(each.b64_json).format for each in answer.data] == ["WEBP"] * 2
    # The pictures themselves were made as PNG; bgrem was asked for the file's format.
    assert raw.headers["X-Cache"] == "miss"


def test_equal_requests_with_a_seed_are_computed_once(client: OpenAI) -> None:
    def ask(**more: Any) -> Any:
        return client.images.with_raw_response.generate(model=POCKET, prompt="once", extra_body=more)

    told = [ask(seed=11).headers.get("X-Cache"), ask(seed=11).headers.get("X-Cache"), ask().headers.get("X-Cache")]
    assert told == ["miss", "hit", None]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"prompt": " "}, "prompt", "invalid_value"),
        ({"model": ""}, "model", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": "2"}, "n", "invalid_value"),
        ({"size": "64"}, "size", "invalid_value"),
        ({"size": "64x64\n"}, "size", "invalid_value"),
        ({"size": "0x64"}, "size", "invalid_value"),
        ({"size": "1024x1024"}, "size", "invalid_value"),
        ({"size": "65x64"}, "size", "invalid_value"),
        ({"response_format": "file"}, "response_format", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_format": "jpeg", "background": "transparent"}, "output_format", "invalid_value"),
        ({"background": "white"}, "background", "invalid_value"),
        ({"output_compression": 101}, "output_compression", "invalid_value"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"style": "realistic"}, "style", "invalid_value"),
        ({"moderation": "high"}, "moderation", "invalid_value"),
        ({"stream": True}, "stream", "invalid_value"),
        ({"partial_images": 1}, "partial_images", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"negative_prompt": "\0"}, "negative_prompt", "invalid_value"),
        ({"num_inference_steps": 0}, "num_inference_steps", "invalid_value"),
        ({"guidance_scale": 101}, "guidance_scale", "invalid_value"),
        ({"user": 1}, "user", "invalid_value"),
        ({"svg": {"model": "x"}}, "svg", "unknown_parameter"),
        ({"strength": 0.5}, "strength", "unknown_parameter"),
    ],
)
def test_a_bad_parameter_is_named_as_openai_names_it(
    client: OpenAI, given: dict[str, Any], param: str, code: str
) -> None:
    body = {"model": POCKET, "prompt": "a robot", **given}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/images/generations", body=body, cast_to=object)
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", param, code)
    assert isinstance(error.body, dict)
    assert param in error.body["message"]
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id == error.response.headers["X-Request-ID"]


def test_what_is_unknown_or_missing_is_said_in_openai_s_words(running: Listening) -> None:
    unknown = running.ask("POST", "/v1/images/generations", json={"model": POCKET, "prompt": "a", "colour": "red"})
    assert unknown.json() == {
        "error": {
            "message": "Unknown parameter: 'colour'.",
            "type": "invalid_request_error",
            "param": "colour",
            "code": "unknown_parameter",
        }
    }
    missing = running.ask("POST", "/v1/images/generations", json={"prompt": "a"})
    assert missing.json()["error"]["message"] == "Missing required parameter: 'model'."
    assert missing.json()["error"]["code"] == "missing_required_parameter"
    is_json = {"Content-Type": "application/json"}
    for broken in (b"{", b"[]", b'{"n": NaN}'):
        answer = running.ask("POST", "/v1/images/generations", data=broken, headers=is_json)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


# Errors that come before the route, and from behind it


def test_a_key_that_is_none_is_an_authentication_error(running: Listening) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        running.client(api_key="enl_wrong").images.generate(model=POCKET, prompt="a robot")
    assert (caught.value.type, caught.value.code) == ("authentication_error", "invalid_api_key")
    assert caught.value.response.headers["WWW-Authenticate"].startswith("Bearer")


def test_another_tenant_s_model_is_not_found(running: Listening, client: OpenAI) -> None:
    assert client.images.generate(model="Robot", prompt="a sks robot").data
    with pytest.raises(openai.NotFoundError) as caught:
        running.client(api_key=running.strangers_key).images.generate(model="Robot", prompt="a sks robot")
    assert caught.value.type == "invalid_request_error"


def test_variations_say_what_to_use_instead(client: OpenAI) -> None:
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.NotFoundError, match="/v1/images/edits"),
    ):
        client.images.create_variation(image=png())


# Edits


def test_a_picture_is_edited_where_the_mask_is_transparent(client: OpenAI) -> None:
    answer = client.images.edit(
        model="Robot", image=png(), mask=mask_png(), prompt="a sks robot", n=2, extra_body={"seed": 3, "strength": 0.9}
    )
    assert answer.data is not None
    assert [each["seed"] for each in answer.model_dump()["data"]] == [3, 4]
    assert answer.background == "opaque"


def test_several_pictures_are_edited_one_after_the_other(running: Listening, client: OpenAI) -> None:
    answer = client.images.edit(
        model=POCKET, image=[png(), png(), png()], prompt="a robot", n=2, response_format="url", extra_body={"seed": 5}
    )
    assert answer.data is not None
    assert [each["seed"] for each in answer.model_dump()["data"]] == [5, 6] * 3
    assert len(kept_pictures(running)) == 6
    remove_pictures(running)


@pytest.mark.parametrize(("model", "network"), [("cutout", "u2net"), ("cutout/u2netp", "u2netp")])
def test_a_cut_out_is_asked_for_by_its_model(running: Listening, client: OpenAI, model: str, network: str) -> None:
    answer = client.images.edit(model=model, image=[png(), png()], prompt="", response_format="url")
    assert (answer.background, answer.output_format) == ("transparent", "png")
    assert answer.data is not None
    kept = kept_pictures(running)
    assert [each["kind"] for each in kept] == ["cutout", "cutout"]
    assert [each["parameters"] for each in kept] == [{"model": network, "format": "png"}] * 2
    on_white = running.ask(
        "POST",
        "/v1/images/edits",
        data={"model": model, "background": "opaque", "output_format": "jpeg"},
        files={"image": png()},
    ).json()
    assert (on_white["background"], on_white["output_format"]) == ("opaque", "jpeg")
    remove_pictures(running)


def test_an_edit_can_be_cut_out(client: OpenAI) -> None:
    answer = client.images.edit(model=POCKET, image=png(), prompt="a robot", background="transparent")
    assert answer.background == "transparent"


PICTURE, MASK = ("image", ("a.png", png())), ("mask", ("m.png", mask_png()))


@pytest.mark.parametrize(
    ("files", "fields", "param", "code"),
    [
        ([], {}, "image", "missing_required_parameter"),
        ([PICTURE, PICTURE], {}, "image", "invalid_value"),
        ([PICTURE, ("image[]", ("a.png", png()))], {}, "image", "invalid_value"),
        ([("image[]", ("a.png", png()))] * 11, {}, "image", "invalid_value"),
        ([("image[]", ("a.png", png()))] * 6, {"n": "2"}, "n", "invalid_value"),
        ([("image", ("a.png", b""))], {}, "image", "invalid_value"),
        ([("image", ("a.png", b"no picture"))], {}, "image", "unsupported_image"),
        ([("image", ("a.png", png()[:60]))], {}, "image", "broken_image"),
        ([PICTURE, ("markup", ("m.png", png()))], {}, "markup", "unknown_parameter"),
        ([PICTURE, MASK, MASK], {}, "mask", "invalid_value"),
        ([PICTURE, ("mask", ("m.png", mask_png(hole=False)))], {}, "mask", "invalid_value"),
        ([PICTURE, ("mask", ("m.png", png()))], {}, "mask", "invalid_value"),
        ([PICTURE, ("mask", ("m.png", b"no mask"))], {}, "mask", "unsupported_image"),
        ([PICTURE, ("mask", ("m.png", png(np.zeros((32, 64, 4), np.uint8))))], {}, "mask", "invalid_value"),
        ([("image[]", ("a.png", png())), ("image[]", ("b.png", png())), MASK], {}, "mask", "invalid_value"),
        ([PICTURE], {"prompt": None}, "prompt", "missing_required_parameter"),
        ([PICTURE], {"prompt": " "}, "prompt", "missing_required_parameter"),
        ([PICTURE], {"prompt": "\0"}, "prompt", "invalid_value"),
        ([PICTURE], {"model": None}, "model", "missing_required_parameter"),
        ([PICTURE], {"mask": "text"}, "mask", "invalid_value"),
        ([PICTURE], {"n": ["1", "1"]}, "n", "invalid_value"),
        ([PICTURE], {"n": "one"}, "n", "invalid_value"),
        ([PICTURE], {"n": "11"}, "n", "invalid_value"),
        ([PICTURE], {"strength": "0"}, "strength", "invalid_value"),
        ([PICTURE], {"strength": "nan"}, "strength", "invalid_value"),
        ([PICTURE], {"keep_unmasked": "perhaps"}, "keep_unmasked", "invalid_value"),
        ([PICTURE], {"input_fidelity": "some"}, "input_fidelity", "invalid_value"),
        ([PICTURE], {"stream": "true"}, "stream", "invalid_value"),
        ([PICTURE], {"size": "1024x1024"}, "size", "invalid_value"),
        ([PICTURE], {"style": "vivid"}, "style", "unknown_parameter"),
        ([PICTURE, MASK], {"model": "cutout"}, "mask", "invalid_value"),
        ([PICTURE], {"model": "cutout", "n": "2"}, "n", "invalid_value"),
        ([PICTURE], {"model": "cutout", "size": "64x64"}, "size", "invalid_value"),
        ([PICTURE], {"model": "cutout", "output_format": "jpeg"}, "output_format", "invalid_value"),
        ([PICTURE], {"model": "cutout/nothing"}, "model", "invalid_value"),
        ([("image", ("a.png", b"no picture"))], {"model": "cutout"}, "image", "unsupported_image"),
    ],
)
def test_a_bad_form_is_refused_by_the_name_of_its_part(
    running: Listening, files: list[Any], fields: dict[str, Any], param: str, code: str
) -> None:
    form = {name: value for name, value in {"model": POCKET, "prompt": "a", **fields}.items() if value is not None}
    # Without a file in it, the form's fields as parts of their own: else it would be no multipart form.
    parts = {"files": files, "data": form} if files else {"files": {name: (None, text) for name, text in form.items()}}
    answer = running.ask("POST", "/v1/images/edits", **parts)
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error"), error
    assert answer.status_code == (415 if code == "unsupported_image" else 400)


def test_a_form_has_bounds(running: Listening) -> None:
    # Given more than the route reads, and more parts than a form of this route can have
    limit_bytes = running.settings.max_body_bytes
    is_form = {"Content-Type": "multipart/form-data; boundary=x"}
    too_large = running.ask("POST", "/v1/images/edits", data=iter([b"-" * (limit_bytes + 1)]), headers=is_form)
    many = running.ask("POST", "/v1/images/edits", files=[("image[]", ("a.png", b"a"))] * 61, data={"model": POCKET})
    no_form = running.ask("POST", "/v1/images/edits", json={"model": POCKET})
    assert [answer.status_code for answer in (too_large, many, no_form)] == [413, 413, 415]
    assert {answer.json()["error"]["type"] for answer in (too_large, many, no_form)} == {"invalid_request_error"}


# Links


def link_to_a_picture(running: Listening) -> str:
    answer = running.client().images.generate(model=POCKET, prompt="a robot", response_format="url")
    assert answer.data is not None
    assert answer.data[0].b64_json is None
    url = answer.data[0].url
    assert url is not None
    return url


def test_a_link_is_good_without_a_key_for_an_hour(running: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    url = link_to_a_picture(running)
    assert url.startswith(f"{running.url}/v1/images/files/pic-")
    # When whoever has it asks
    answer = requests.get(url, timeout=30)
    # Then it is the picture
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert opened_picture(base64.b64encode(answer.content).decode()).size == (SIDE_PX, SIDE_PX)
    # And when the hour is over, it was
    now_s = time.time()
    monkeypatch.setattr("enlight.main_api.adapters.openai.images.picture_links.time.time", lambda: now_s + LINK_S + 1)
    over = requests.get(url, timeout=30)
    assert (over.status_code, over.json()["error"]["type"]) == (403, "permission_error")
    monkeypatch.undo()
    # And one whose picture is gone leads nowhere
    remove_pictures(running)
    assert requests.get(url, timeout=30).status_code == 404


def test_a_link_that_was_changed_leads_nowhere(running: Listening) -> None:
    first, second = link_to_a_picture(running), link_to_a_picture(running)
    path, _, query = first.partition("?")
    expires = query.partition("&")[0]
    changed = [
        f"{second.partition('?')[0]}?{query}",
        first.replace(expires, f"expires={int(expires.removeprefix('expires=')) + 1}"),
        first[:-1] + ("0" if first[-1] != "0" else "1"),
        first[:-1],
        f"{path}?{expires}&signature=",
        f"{path}?{expires}&signature=%C3%A9",
        first.replace("/pic-", "/pic-0"),
    ]
    for url in changed:
        assert requests.get(url, timeout=30).status_code == 404, url
    for url in (
        path,
        f"{path}?{expires}",
        f"{first}&expires=1",
        f"{first}&more=1",
        first.replace(expires, "expires=x"),
    ):
        assert requests.get(url, timeout=30).status_code == 400, url
    assert requests.post(first, timeout=30).status_code == 405
    remove_pictures(running)


def test_each_tenant_s_links_have_a_secret_of_their_own(running: Listening) -> None:
    # Given a picture of one tenant, and the same record as if another one had it
    link_to_a_picture(running)
    with opened(running.settings) as stores:
        links = PictureLinks(stores.database, PictureRecords(stores.database))
        picture_id = kept_pictures(running)[0]["id"]
        signed = links.link(PictureRecords(stores.database).get("anna", picture_id), "")
        stores.database["pictures"].update_one({"_id": picture_id}, {"$set": {"tenant": "stranger"}})
        assert requests.get(f"{running.url}{signed}", timeout=30).status_code == 404
        stores.database["pictures"].update_one({"_id": picture_id}, {"$set": {"tenant": "anna"}})
        assert requests.get(f"{running.url}{signed}", timeout=30).status_code == 200
    remove_pictures(running)


def test_no_more_pictures_are_kept_than_may_be_and_the_sdk_does_not_try_again(running: Listening) -> None:
    sent: list[object] = []
    for _ in range(2):
        assert (
            len(running.client().images.generate(model=POCKET, prompt="a", n=4, response_format="url").data or []) == 4
        )
    client = running.client(max_retries=2, http_client=noting(sent))
    with pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(model=POCKET, prompt="a", response_format="url")
    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
    assert len(sent) == 1
    remove_pictures(running)


def noting(sent: list[object]) -> openai.DefaultHttpxClient:
    """A client that notes what it sends."""
    return openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})


# Models


def test_the_sdk_lists_shows_and_removes_models(running: Listening, client: OpenAI, tmp_path: Path) -> None:
    with opened(running.settings) as stores:
        bucket_id = stores.names.reserve("anna", "Short-lived")
        publish(stores.models, bucket_id, write_lora(tmp_path / "lora", seed=2), "lora")
    assert [model.id for model in client.models.list()] == ["Robot", "Short-lived"]
    shown = client.models.retrieve("Short-lived")
    assert (shown.id, shown.object, shown.owned_by) == ("Short-lived", "model", "anna")
    assert client.models.delete("Short-lived").deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("Short-lived")
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", None, "not_found")
    assert isinstance(error.body, dict)
    # What the suite's own clients read is in the same body
    assert error.body == {
        "message": ANY,
        "type": ANY,
        "param": None,
        "code": "not_found",
        "details": {},
        "request_id": error.request_id,
    }
    assert error.response.json()["message"] == error.body["message"]


def test_a_base_model_s_name_is_none_of_a_trained_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/base-models"):
        client.models.retrieve(POCKET)


def test_errors_of_models_are_openai_s_too(running: Listening) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        running.client(api_key="none").models.list()
    assert (caught.value.type, caught.value.code) == ("authentication_error", "unauthorized")
    with pytest.raises(openai.UnprocessableEntityError) as bad:
        running.client().models.list(extra_query={"limit": 0})
    assert (bad.value.param, bad.value.code) == ("limit", "invalid_field")
