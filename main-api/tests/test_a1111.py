"""``/sdapi/v1`` as A1111's clients know it, by the stock webuiapi, and with bodies that no client sends."""

from __future__ import annotations

import io
import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick_services
import requests
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from PIL import Image, ImageDraw
from small_models import publish, write_lora
from stand_in_service import Seen, error_http, json_http
from waiting import wait_until
from webuiapi import Upscaler, WebUIApi
from werkzeug.test import TestResponse

from enlight.dreambooth_api.schemas import GenerationBody
from enlight.main_api.adapters.a1111.lists import NOTHING
from enlight.main_api.adapters.a1111.routes import GPU_RULES
from enlight.main_api.settings import Settings

BASE = "enlight/pocket"
NATIVE_PX = 64
RED, GREEN = (200, 30, 30), (30, 200, 30)
_tenants = iter(range(10**6))


def png(colour: tuple[int, ...], size: tuple[int, int] = (NATIVE_PX, NATIVE_PX)) -> Image.Image:
    return Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour)


def text_of(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return b64encode(file.getvalue()).decode()


def picture_of(text: str) -> Image.Image:
    picture = Image.open(io.BytesIO(b64decode(text)))
    picture.load()
    return picture


class Dreambooth:
    """What dreambooth-api is asked; it answers with pictures of the colour of their seed, in the size asked for."""

    def __init__(self) -> None:
        self.asked: list[GenerationBody] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def answer(self, seen: Seen) -> bytes:
        body = GenerationBody.model_validate_json(seen.body)
        self.asked.append(body)
        assert self.may_answer.wait(30)
        seed = 1000 if body.seed is None else body.seed
        width, height = body.width or NATIVE_PX, body.height or NATIVE_PX
        pictures = [png(((seed + number) % 256, 200, 30), (width, height)) for number in range(body.num_images)]
        return json_http(
            {
                "images": [text_of(picture) for picture in pictures],
                "format": "png",
                "model_id": body.model_id,
                "model_version": None if "/" in body.model_id else "01ABC",
                "base_model": BASE,
                "seed": seed,
                "num_inference_steps": body.num_inference_steps or 25,
                "strength": body.strength,
                "guidance_scale": body.guidance_scale,
                "scheduler": "DDIMScheduler",
                "width": width,
                "height": height,
                "batch_images": body.num_images,
                "cache_tier": "gpu",
                "queued_s": 0,
                "run_s": 0.5,
            },
            headers={"X-Run-Seconds": "0.5", "X-Model-Version": BASE},
        )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("a1111")) as running:
        yield running


@pytest.fixture
def dreambooth(servers: Surroundings) -> Iterator[Dreambooth]:
    service = Dreambooth()
    servers.behind["dreambooth"].answer = service.answer
    yield service
    service.may_answer.set()


@pytest.fixture(scope="module")
def settings(servers: Surroundings) -> Iterator[Settings]:
    with quick_services.served(quick_services.realesrgan(servers.folder)) as realesrgan:
        yield servers.settings(realesrgan_urls=[realesrgan], gpu_seconds_per_hour=1000)


@pytest.fixture(scope="module")
def url(app: OpenAPI) -> Iterator[str]:
    with quick_services.served(app) as url:
        yield f"{url}/sdapi/v1"


@dataclass(frozen=True)
class Person:
    """Who asks, with a model of a name that others have too."""

    api: WebUIApi
    tenant: str
    key: str
    bucket_id: str
    url: str

    def post(self, name: str, body: object) -> requests.Response:
        return requests.post(f"{self.url}/{name}", json=body, auth=("api", self.key), timeout=30)

    def get(self, name: str) -> Any:
        return requests.get(f"{self.url}/{name}", auth=("api", self.key), timeout=30).json()


@pytest.fixture
def anna(url: str, settings: Settings, tmp_path: Path) -> Person:
    return person(url, settings, tmp_path)


@pytest.fixture
def berta(url: str, settings: Settings, tmp_path: Path) -> Person:
    return person(url, settings, tmp_path)


def person(url: str, settings: Settings, folder: Path) -> Person:
    tenant = f"tenant-{next(_tenants)}"
    with opened(settings) as stores:
        bucket_id = stores.names.reserve(tenant, "robot")
        publish(stores.models, bucket_id, write_lora(folder / tenant, seed=1), "lora")
    key = make_key(settings, tenant)
    api = WebUIApi(baseurl=url, sampler="Euler a", steps=20, username="anybody", password=key)
    return Person(api, tenant, key, bucket_id, url)


def detail(response: requests.Response | TestResponse, status: int) -> str:
    """What an error says; of a field that is wrong its name and what is wrong."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = json.loads(response.text)
    if status != 422:
        assert body == {"error": body["error"], "detail": body["detail"], "body": "", "errors": body["detail"]}
        return str(body["detail"])
    (problem, *_) = body["detail"]
    assert set(body) == {"detail"}
    assert set(problem) == {"loc", "msg", "type"}
    assert problem["loc"][0] == "body"
    return f"{problem['loc'][1]}: {problem['msg']}"


# Pictures from a prompt


def test_txt2img_is_what_dreambooth_api_is_asked(dreambooth: Dreambooth, anna: Person) -> None:
    # When webuiapi asks for two batches of two pictures
    result = anna.api.txt2img(
        prompt="a sks robot <lora:robot:1> on the beach",
        negative_prompt="blurred",
        seed=7,
        steps=9,
        cfg_scale=5.5,
        width=96,
        height=64,
        batch_size=2,
        n_iter=2,
    )
    # Then dreambooth-api is asked twice, for the bucket's model, without the mark
    assert [body.model_dump(exclude_unset=True) for body in dreambooth.asked] == [
        {
            "model_id": anna.bucket_id,
            "prompt": "a sks robot  on the beach",
            "negative_prompt": "blurred",
            "num_images": 2,
            "guidance_scale": 5.5,
            "num_inference_steps": 9,
            "width": 96,
            "height": 64,
            "seed": seed,
        }
        for seed in (7, 9)
    ]
    # And the answer is as A1111 gives it, with what really ran
    assert [picture.getpixel((0, 0)) for picture in result.images] == [(seed, 200, 30) for seed in (7, 8, 9, 10)]
    assert result.image.size == (96, 64)
    assert (result.info["seed"], result.info["all_seeds"]) == (7, [7, 8, 9, 10])
    assert (result.info["sampler_name"], result.info["steps"], result.info["cfg_scale"]) == ("DDIM", 9, 5.5)
    assert result.info["sd_model_name"] == "robot"
    assert result.info["prompt"] == "a sks robot <lora:robot:1> on the beach"
    assert result.info["infotexts"][1] == (
        "a sks robot <lora:robot:1> on the beach\nNegative prompt: blurred\n"
        "Steps: 9, Sampler: DDIM, CFG scale: 5.5, Seed: 8, Size: 96x64, Model: robot, Version: enlight"
    )
    assert result.parameters["batch_size"] == 2
    assert anna.bucket_id not in json.dumps(result.json)


def test_what_is_left_out_is_the_base_model_s_and_a_random_seed_is_told(dreambooth: Dreambooth, anna: Person) -> None:
    answer = anna.post("txt2img", {"prompt": "a cat", "n_iter": 2, "eta": 1.0, "s_churn": 0, "unheard_of": [1]})
    first, second = (body.model_dump(exclude_unset=True) for body in dreambooth.asked)
    given = {"model_id": BASE, "prompt": "a cat", "negative_prompt": "", "num_images": 1, "guidance_scale": 7.0}
    # The second batch goes on from the seed that the first one told
    assert (first, second) == ({**given, "seed": None}, {**given, "seed": 1001})
    assert json.loads(answer.json()["info"])["all_seeds"] == [1000, 1001]


def test_no_pictures_are_sent_where_none_are_wanted(dreambooth: Dreambooth, anna: Person) -> None:
    answer = anna.post("txt2img", {"prompt": "a cat", "send_images": False}).json()
    assert answer["images"] == []
    assert json.loads(answer["info"])["seed"] == 1000


def test_equal_requests_with_a_seed_are_computed_once(dreambooth: Dreambooth, anna: Person) -> None:
    body = {"prompt": "a cat", "seed": 5, "n_iter": 2}
    first, second = anna.post("txt2img", body), anna.post("txt2img", body)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.json()["images"] == second.json()["images"]
    assert len(dreambooth.asked) == 2
    assert "X-Cache" not in anna.post("txt2img", {"prompt": "a cat"}).headers


# Which model


def test_models_are_checkpoints_and_trained_ones_loras(anna: Person) -> None:
    assert anna.api.util_get_model_names() == [BASE, "robot"]
    assert [lora["name"] for lora in anna.api.get_loras()] == ["robot"]


def test_a_chosen_model_is_that_of_the_key_s_later_requests(
    dreambooth: Dreambooth, anna: Person, settings: Settings
) -> None:
    # Given two keys of a tenant
    other = WebUIApi(baseurl=anna.url, username="x", password=make_key(settings, anna.tenant))
    assert anna.api.util_get_current_model() == BASE
    # When one of them chooses a model, by the closest name
    anna.api.util_set_model("Robot")
    # Then it is the model of its requests that name none, and of nobody else's
    assert anna.api.util_get_current_model() == "robot"
    assert other.util_get_current_model() == BASE
    for api in (anna.api, other):
        api.txt2img(prompt="a robot", width=64, height=64)
    assert [body.model_id for body in dreambooth.asked] == [anna.bucket_id, BASE]
    # And what a request itself names goes before it
    anna.api.txt2img(prompt="a robot", width=64, height=64, override_settings={"sd_model_checkpoint": BASE})
    assert dreambooth.asked[-1].model_id == BASE
    # And what is shown can be set again
    assert anna.api.set_options(anna.api.get_options()) is None


def test_a_chosen_model_that_is_gone_is_said_to_be(dreambooth: Dreambooth, anna: Person, app: OpenAPI) -> None:
    anna.api.set_options({"sd_model_checkpoint": "robot"})
    assert client_of(app, anna.key).delete("/v1/models/robot").status_code == 200
    assert detail(anna.post("txt2img", {"prompt": "a cat"}), 404).startswith("Model not found: robot. GET")
    anna.api.set_options({"sd_model_checkpoint": BASE})
    assert anna.post("txt2img", {"prompt": "a cat"}).status_code == 200


@pytest.mark.parametrize("name", ["robot2", "enlight/other", "", "../robot", "robot\x00", "a" * 200])
def test_a_model_that_is_not_there_is_not_found(dreambooth: Dreambooth, anna: Person, name: str) -> None:
    for route, body in (
        ("txt2img", {"prompt": "a cat", "override_settings": {"sd_model_checkpoint": name}}),
        ("options", {"sd_model_checkpoint": name}),
    ):
        if name or route == "options":
            assert "GET /sdapi/v1/sd-models" in detail(anna.post(route, body), 404)
    assert dreambooth.asked == []


def test_another_tenant_s_model_makes_no_pictures(
    dreambooth: Dreambooth, anna: Person, settings: Settings, tmp_path: Path
) -> None:
    with opened(settings) as stores:
        foreign = stores.names.reserve("somebody-else", "secret")
        publish(stores.models, foreign, write_lora(tmp_path / "foreign", seed=1), "lora")
    for body in (
        {"prompt": "a cat <lora:secret:1>"},
        {"prompt": f"a cat <lora:{foreign}:1>"},
        {"prompt": "a cat", "override_settings": {"sd_model_checkpoint": "secret"}},
    ):
        assert "Model not found" in detail(anna.post("txt2img", body), 404)
    assert "secret" not in json.dumps(anna.api.get_sd_models())
    assert dreambooth.asked == []


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("a cat <lora:robot:0.6>", "prompt: <lora:robot:...> has the weight 1"),
        ("a cat <lora:robot:1:0.5>", "prompt: <lora:robot:...> has the weight 1"),
        ("a cat <lora:robot:>", "prompt: <lora:robot:...> has the weight 1"),
        ("a cat <lora:robot:1> <lora:other:1>", "prompt: one model at a time: other and robot"),
        ("a cat <hypernet:robot:1>", "prompt: <hypernet:...> is not to be had here"),
        ("<lora:robot:1>", "prompt: must not be empty"),
        ("", "prompt: must not be empty"),
        (" \n", "prompt: must not be empty"),
        ("a\x00cat", "prompt: must not hold a NUL character"),
    ],
)
def test_marks_that_would_not_do_what_they_say_are_refused(
    dreambooth: Dreambooth, anna: Person, prompt: str, problem: str
) -> None:
    assert detail(anna.post("txt2img", {"prompt": prompt}), 422).startswith(problem)
    assert dreambooth.asked == []


@pytest.mark.parametrize("mark", ["<lora:robot>", "<lora:robot:1>", "<lora:robot:1.0>", "<lora: robot : 1 >"])
def test_a_mark_picks_the_model_and_is_taken_out(dreambooth: Dreambooth, anna: Person, mark: str) -> None:
    assert anna.post("txt2img", {"prompt": f"a cat, {mark}{mark}"}).status_code == 200
    assert (dreambooth.asked[-1].model_id, dreambooth.asked[-1].prompt) == (anna.bucket_id, "a cat,")


def test_two_models_in_one_request_are_refused(dreambooth: Dreambooth, anna: Person, settings: Settings) -> None:
    with opened(settings) as stores:
        stores.names.reserve(anna.tenant, "cat")
    body = {"prompt": "a cat <lora:robot:1>", "override_settings": {"sd_model_checkpoint": "cat"}}
    assert "picks robot, and sd_model_checkpoint another model, cat" in detail(anna.post("txt2img", body), 422)
    body["override_settings"] = {"sd_model_checkpoint": BASE}  # what a LoRA is laid over
    assert anna.post("txt2img", body).status_code == 200


# What is not here


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enable_hr", True),
        ("script_name", "X/Y/Z Plot"),
        ("alwayson_scripts", {"ControlNet": {"args": []}}),
        ("subseed_strength", 0.5),
        ("seed_resize_from_w", 512),
        ("seed_resize_from_h", 512),
        ("restore_faces", True),
        ("tiling", True),
        ("refiner_checkpoint", "other"),
        ("save_images", True),
        ("override_settings", {"CLIP_stop_at_last_layers": 2}),
        ("override_settings", {"eta_ddim": 1}),
        ("steps", 0),
        ("steps", "20"),
        ("steps", True),
        ("width", 7),
        ("cfg_scale", 101),
        ("batch_size", 0),
        ("n_iter", 101),
        ("seed", -2),
        ("seed", 2**63),
        ("prompt", 7),
        ("prompt", ["a cat"]),
    ],
)
def test_a_field_that_cannot_be_done_is_refused_by_its_name(
    dreambooth: Dreambooth, anna: Person, field: str, value: object
) -> None:
    assert detail(anna.post("txt2img", {"prompt": "a cat", field: value}), 422).startswith(field)
    assert dreambooth.asked == []


def test_a_sampler_that_a1111_has_is_taken_and_any_other_is_not_found(dreambooth: Dreambooth, anna: Person) -> None:
    for name in ("Euler a", "DPM++ 2M Karras", "ddim", "Automatic"):
        assert anna.post("txt2img", {"prompt": "a cat", "sampler_name": name}).status_code == 200
    assert "Sampler not found: Euler b" in detail(anna.post("txt2img", {"prompt": "a", "sampler_name": "Euler b"}), 404)
    assert "Sampler not found" in detail(anna.post("txt2img", {"prompt": "a", "sampler_index": "Euler b"}), 404)


def test_what_dreambooth_api_says_of_a_field_is_said_in_a1111_s_words(
    servers: Surroundings, dreambooth: Dreambooth, anna: Person
) -> None:
    fields = [{"field": "num_images", "message": "must be at most 16"}]
    told = {"message": "x", "error": {"code": "invalid_field", "details": {"fields": fields}, "request_id": "r"}}
    servers.behind["dreambooth"].answer = lambda seen: json_http(told, status=422)
    assert detail(anna.post("txt2img", {"prompt": "a cat", "batch_size": 17}), 422) == "batch_size: must be at most 16"
    servers.behind["dreambooth"].answer = lambda seen: error_http(422, "invalid_field")
    assert anna.post("txt2img", {"prompt": "a cat"}).json() == {"detail": "No."}
    servers.behind["dreambooth"].answer = lambda seen: error_http(503, "queue_full")
    refused = anna.post("txt2img", {"prompt": "a cat"})
    assert detail(refused, 503) == "No."
    assert refused.headers["Retry-After"] == "5"
    # webuiapi raises it as it is
    with pytest.raises(RuntimeError) as raised:
        anna.api.txt2img(prompt="a cat", width=64, height=64)
    assert raised.value.args[0] == 503
    assert json.loads(raised.value.args[1])["error"] == "QueueFull"


# Pictures from pictures


def test_img2img_begins_from_the_picture(dreambooth: Dreambooth, anna: Person) -> None:
    result = anna.api.img2img(
        images=[png(RED)], prompt="a cat", seed=3, denoising_strength=0.4, width=64, height=64, resize_mode=1
    )
    (asked,) = dreambooth.asked
    assert (asked.strength, asked.mask, asked.keep_unmasked) == (0.4, None, True)
    assert picture_of(asked.image or "").getpixel((5, 5)) == RED
    assert result.image.getpixel((5, 5)) == (3, 200, 30)
    assert result.info["denoising_strength"] == 0.4
    assert "Denoising strength: 0.4" in result.info["infotexts"][0]
    assert result.parameters["init_images"] is None
    assert anna.api.img2img(
        images=[png(RED)], prompt="a cat", width=64, height=64, include_init_images=True
    ).parameters["init_images"]


@pytest.mark.parametrize(
    ("mode", "corners"),
    [(0, [RED, GREEN]), (1, [RED, GREEN]), (2, [RED, GREEN])],
    ids=["stretched", "covered", "within"],
)
def test_a_picture_is_brought_to_the_size_that_is_asked_for(
    dreambooth: Dreambooth, anna: Person, mode: int, corners: list[tuple[int, int, int]]
) -> None:
    # Given a wide picture, red on the left and green on the right, with a white stripe above
    picture = png(RED, (128, 64))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((64, 0, 127, 63), fill=GREEN)
    draw.rectangle((0, 0, 127, 7), fill="white")
    anna.api.img2img(images=[picture], prompt="a cat", width=64, height=64, resize_mode=mode)
    sent = picture_of(dreambooth.asked[-1].image or "")
    assert sent.size == (64, 64)
    assert [sent.getpixel((x, 50 if mode < 2 else 40)) for x in (0, 63)] == corners
    # Stretched and within, the stripe is half as high or drawn out to the edge; covered, as high as it was
    column = np.asarray(sent.convert("L"))[:, 0] > 200
    assert column.sum() == pytest.approx({0: 8, 1: 8, 2: 20}[mode], abs=2)


def test_without_a_size_the_picture_goes_as_it_is(dreambooth: Dreambooth, anna: Person) -> None:
    anna.post("img2img", {"prompt": "a cat", "init_images": [text_of(png(RED, (50, 40)))]})
    (asked,) = dreambooth.asked
    assert (asked.width, asked.height) == (None, None)
    assert picture_of(asked.image or "").size == (50, 40)


def inpainted(anna: Person, **more: Any) -> Image.Image:
    """A red picture in whose middle something is painted anew."""
    mask = Image.new("RGB", (128, 128), "black")
    ImageDraw.Draw(mask).rectangle((48, 48, 79, 79), fill="white")
    result = anna.api.img2img(
        images=[png(RED, (128, 128))],
        mask_image=more.pop("mask_image", mask),
        prompt="a cat",
        seed=3,
        **{"width": 64, "height": 64, **more},
    )
    image: Image.Image = result.image
    return image


def test_outside_of_the_mask_the_picture_stays_and_goes_over_softly(dreambooth: Dreambooth, anna: Person) -> None:
    # When the masked part is painted in full size, as webuiapi asks by default
    image = inpainted(anna, mask_blur=2)
    # Then only that part was sent, with surroundings
    (asked,) = dreambooth.asked
    assert (asked.width, asked.height, asked.keep_unmasked) == (64, 64, False)
    painted = np.asarray(picture_of(asked.mask or ""))
    assert set(np.unique(painted)) == {0, 255}
    assert (painted == 255).mean() > 0.5
    # And the picture has its size and its own pixels but in the middle, and between both a way over
    assert image.size == (128, 128)
    assert image.getpixel((20, 20)) == image.getpixel((40, 64)) == RED
    assert image.getpixel((64, 64)) == (3, 200, 30)
    edge = image.getpixel((48, 64))
    assert isinstance(edge, tuple)
    assert 30 < edge[1] < 200


def test_the_whole_picture_is_painted_where_that_is_asked_for(dreambooth: Dreambooth, anna: Person) -> None:
    image = inpainted(anna, inpaint_full_res=False, mask_blur=0)
    (asked,) = dreambooth.asked
    painted = np.asarray(picture_of(asked.mask or ""))
    assert painted.shape == (64, 64)
    assert (painted == 255).sum() == 16 * 16
    assert image.size == (64, 64)
    new = np.asarray(image)[..., 1] == 200
    assert (new == (painted == 255)).all()


def test_an_inverted_mask_and_a_transparent_one(dreambooth: Dreambooth, anna: Person) -> None:
    image = inpainted(anna, inpaint_full_res=False, mask_blur=0, inpainting_mask_invert=1)
    assert image.getpixel((32, 32)) == RED
    assert image.getpixel((2, 2)) == (3, 200, 30)
    transparent = png((0, 0, 0, 0), (128, 128))
    ImageDraw.Draw(transparent).rectangle((0, 0, 63, 127), fill=(0, 0, 0, 255))
    image = inpainted(anna, inpaint_full_res=False, mask_blur=0, mask_image=transparent)
    assert image.getpixel((2, 2)) == (3, 200, 30)
    assert image.getpixel((60, 2)) == RED


def test_painting_begins_from_the_surroundings_or_from_what_is_there(dreambooth: Dreambooth, anna: Person) -> None:
    picture = png(RED, (64, 64))
    ImageDraw.Draw(picture).rectangle((24, 24, 39, 39), fill=GREEN)
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((20, 20, 43, 43), fill=255)
    for fill in (0, 1):
        anna.api.img2img(
            images=[picture],
            mask_image=mask,
            prompt="a cat",
            width=64,
            height=64,
            inpainting_fill=fill,
            inpaint_full_res=False,
        )
    around, itself = (picture_of(body.image or "").getpixel((32, 32)) for body in dreambooth.asked)
    assert isinstance(around, tuple)
    assert np.abs(np.subtract(around, RED)).max() <= 12
    assert itself == GREEN


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"init_images": []}, 422, "init_images"),
        ({"init_images": None}, 422, "init_images"),
        ({"init_images": [text_of(png(RED))] * 2}, 422, "init_images"),
        ({"init_images": ["http://127.0.0.1/cat.png"]}, 422, "init_images[0]: is an address"),
        ({"init_images": ["HTTPS://example.com/cat.png"]}, 422, "init_images[0]: is an address"),
        ({"init_images": ["@@@"]}, 400, "init_images[0] is not base64"),
        ({"init_images": [""]}, 400, "init_images[0] is empty"),
        ({"init_images": ["data:text/html;base64,AAAA"]}, 400, "init_images[0] must be plain base64"),
        ({"init_images": [b64encode(b"GIF89a").decode()]}, 415, "init_images[0] is not a PNG"),
        ({"init_images": [text_of(png(RED))[:60]]}, 400, "init_images[0] is a broken PNG"),
        ({"init_images": [text_of(Image.new("1", (9000, 8)))]}, 413, "init_images[0] has 9000 x 8 pixels"),
        ({"mask": text_of(Image.new("L", (64, 64)))}, 422, "mask: must be white"),
        ({"mask": "file:///etc/passwd"}, 400, "mask is not base64"),
        ({"denoising_strength": 0}, 422, "denoising_strength"),
        ({"resize_mode": 3}, 422, "resize_mode"),
        ({"resize_mode": False}, 422, "resize_mode"),
        ({"inpainting_fill": 2}, 422, "inpainting_fill"),
        ({"mask_blur": 65}, 422, "mask_blur"),
        ({"initial_noise_multiplier": 0.5}, 422, "initial_noise_multiplier"),
    ],
)
def test_pictures_that_cannot_be_painted_over_are_refused_by_their_field(
    dreambooth: Dreambooth, anna: Person, change: dict[str, Any], status: int, problem: str
) -> None:
    body = {"prompt": "a cat", "init_images": [text_of(png(RED))], **change}
    assert detail(anna.post("img2img", body), status).startswith(problem)
    assert dreambooth.asked == []


# Larger pictures


def test_a_picture_is_enlarged_by_real_esrgan_and_brought_to_its_size(anna: Person) -> None:
    result = anna.api.extra_single_image(
        image=png(RED, (40, 32)), upscaler_1=Upscaler.ESRGAN_4x, upscaling_resize=1.5, gfpgan_visibility=1
    )
    assert result.image.size == (56, 48)  # multiples of 8, as A1111 cuts them
    assert result.image.getpixel((9, 9)) == (200, 200, 200)  # what the service's worker gives in its place
    assert "R-ESRGAN 4x+" in result.info


def test_several_pictures_are_enlarged_in_their_order(anna: Person) -> None:
    result = anna.api.extra_batch_images(
        images=[png(RED), png(GREEN)],
        upscaler_1="Lanczos",
        resize_mode=1,
        upscaling_resize_w=100,
        upscaling_resize_h=50,
    )
    assert [picture.size for picture in result.images] == [(100, 50)] * 2
    assert [picture.getpixel((9, 9)) for picture in result.images] == [RED, GREEN]


def test_without_an_upscaler_the_picture_stays_and_without_a_cut_it_covers_the_size(anna: Person) -> None:
    assert anna.api.extra_single_image(image=png(RED, (50, 40))).image.size == (50, 40)
    body = {
        "image": text_of(png((0, 0, 0, 0), (64, 32))),
        "upscaler_1": "Nearest",
        "resize_mode": 1,
        "upscaling_resize_w": 100,
        "upscaling_resize_h": 100,
        "upscaling_crop": False,
    }
    enlarged = picture_of(anna.post("extra-single-image", body).json()["image"])
    assert (enlarged.size, enlarged.mode) == ((200, 100), "RGBA")


def test_equal_pictures_are_enlarged_once(anna: Person) -> None:
    body = {"image": text_of(png(RED, (30, 30))), "upscaler_1": "R-ESRGAN 4x+"}
    assert [anna.post("extra-single-image", body).headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"upscaler_1": "LDSR"}, 422, "upscaler_1: is not to be had here; there are None, Lanczos"),
        ({"extras_upscaler_2_visibility": 0.5}, 422, "extras_upscaler_2_visibility"),
        ({"codeformer_visibility": 1}, 422, "codeformer_visibility"),
        ({"gfpgan_visibility": 0.5}, 422, "gfpgan_visibility"),
        ({"gfpgan_visibility": False}, 422, "gfpgan_visibility"),
        ({"resize_mode": False}, 422, "resize_mode"),
        ({"gfpgan_visibility": 1, "upscaler_1": "Lanczos"}, 422, "gfpgan_visibility: needs upscaler_1"),
        ({"upscaling_resize": 0}, 422, "upscaling_resize"),
        ({"upscaling_resize": 128, "image": text_of(png(RED, (65, 8)))}, 422, "upscaling_resize: makes 8320 x 1024"),
        ({"resize_mode": 1, "image": text_of(png(RED, (1, 4)))}, 200, ""),
        ({"image": "http://example.com/a.png"}, 422, "image: is an address"),
        ({"image": "@@"}, 400, "image is not base64"),
        ({"image": b64encode(b"BM").decode()}, 415, "image is not a PNG"),
        ({"image": None}, 422, "image"),
    ],
)
def test_what_cannot_be_enlarged_is_refused_by_its_field(
    anna: Person, change: dict[str, Any], status: int, problem: str
) -> None:
    answer = anna.post("extra-single-image", {"image": text_of(png(RED)), "upscaler_1": "R-ESRGAN 4x+", **change})
    if status == 200:
        assert picture_of(answer.json()["image"]).size == (512, 512)
    else:
        assert detail(answer, status).startswith(problem)


# What is under way


def test_progress_tells_of_one_s_own_requests_and_interrupt_ends_them(
    dreambooth: Dreambooth, anna: Person, berta: Person
) -> None:
    # Given nothing under way
    assert anna.get("progress")["state"]["job_count"] == 0
    anna.api.util_wait_for_ready()
    # When a request of three batches is at its second
    dreambooth.may_answer.clear()
    answers: list[Any] = []
    body = {"prompt": "a cat", "n_iter": 3, "steps": 9, "seed": 1}
    thread = threading.Thread(target=lambda: answers.append(anna.post("txt2img", body).json()))
    thread.start()
    assert wait_until(lambda: len(dreambooth.asked) == 1)
    first, others = anna.get("progress"), berta.get("progress")
    dreambooth.may_answer.set()
    thread.join(30)
    # Then its owner is told, and nobody else
    assert first["progress"] == 0.01
    assert first["eta_relative"] == 0.0
    assert {key: first["state"][key] for key in ("job", "job_count", "job_no", "sampling_steps")} == {
        "job": "txt2img",
        "job_count": 3,
        "job_no": 0,
        "sampling_steps": 9,
    }
    assert (others["progress"], others["state"]["job_count"]) == (0.0, 0)
    # And once a batch of the kind was timed, what is left is estimated
    dreambooth.may_answer.clear()
    asked = len(dreambooth.asked)
    thread = threading.Thread(target=lambda: answers.append(anna.post("txt2img", {**body, "seed": 100}).json()))
    thread.start()
    assert wait_until(lambda: len(dreambooth.asked) == asked + 1)
    later = anna.get("progress")
    assert later["eta_relative"] > 0
    assert 0.01 <= later["progress"] < 1
    # And interrupted, it ends with the batch that is being made
    berta.api.interrupt()
    assert not anna.get("progress")["state"]["interrupted"]
    assert anna.api.interrupt() == {}
    assert anna.get("progress")["state"]["interrupted"]
    dreambooth.may_answer.set()
    thread.join(30)
    assert [len(answer["images"]) for answer in answers] == [3, 1]
    assert len(dreambooth.asked) == asked + 1
    assert anna.get("progress")["progress"] == 0.0


def test_a_request_that_fails_is_under_way_no_more(servers: Surroundings, dreambooth: Dreambooth, anna: Person) -> None:
    servers.behind["dreambooth"].answer = lambda seen: error_http(503, "queue_full")
    assert anna.post("txt2img", {"prompt": "a cat"}).status_code == 503
    assert anna.get("progress")["state"]["job_count"] == 0


# Everything else that webuiapi asks


def test_every_documented_call_of_webuiapi_is_answered(anna: Person) -> None:
    api = anna.api
    assert (api.has_controlnet, api.has_adetailer, api.has_animatediff) == (False, False, False)
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.util_get_sampler_names() == ["Automatic"]
    assert "Euler a" in api.get_samplers()[0]["aliases"]
    assert api.util_get_scheduler_names() == ["automatic"]
    assert {upscaler["name"] for upscaler in api.get_upscalers()} >= {"None", "Lanczos", "R-ESRGAN 4x+"}
    assert api.get_realesrgan_models()[0]["name"] == "R-ESRGAN 4x+"
    assert api.get_face_restorers() == [{"name": "GFPGAN", "cmd_dir": None}]
    assert api.get_latent_upscale_modes() == api.get_sd_vae() == api.get_hypernetworks() == []
    assert api.get_prompt_styles() == []
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.get_cmd_flags() == {}
    assert set(api.get_memory()) == {"ram", "cuda"}
    assert api.refresh_checkpoints() is None
    assert api.skip() is None
    # Those that A1111 itself has no more
    assert "There is no /sdapi/v1/artists here" in api.get_artists()["detail"]


def test_what_is_not_here_is_answered_in_a1111_s_shape_with_what_there_is(anna: Person) -> None:
    told = detail(anna.post("interrogate", {"image": "", "model": "clip"}), 404)
    assert told.startswith("There is no /sdapi/v1/interrogate here. There are /sdapi/v1/cmd-flags")
    assert detail(anna.post("sd-models", {}), 405) == "/sdapi/v1/sd-models does not take POST."
    elsewhere = requests.get(anna.url.replace("/sdapi/v1", "/v1/nothing"), auth=("api", anna.key), timeout=30)
    assert elsewhere.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("key", ["options", "unheard_of"])
def test_an_option_that_is_not_here_is_refused_by_its_name(anna: Person, key: str) -> None:
    assert detail(anna.post("options", {key: 1}), 422).startswith(key)


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"prompt": NaN}', "application/json", 400),
        (b"prompt=a", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_body_that_is_none_is_refused(
    app: OpenAPI, anna: Person, data: bytes, content_type: str, status: int
) -> None:
    client = client_of(app, anna.key)
    for rule in (*GPU_RULES, "/sdapi/v1/options"):
        detail(client.post(rule, data=data, content_type=content_type), status)


# Keys and limits


def test_every_route_needs_a_key_and_says_so_in_a1111_s_shape(app: OpenAPI) -> None:
    client = app.test_client()
    for name in (*NOTHING, "sd-models", "loras", "samplers", "progress", "options"):
        refused = client.get(f"/sdapi/v1/{name}")
        assert detail(refused, 401).startswith("Send a valid API key")
        assert "Basic" in refused.headers["WWW-Authenticate"]
    for rule in (*GPU_RULES, "/sdapi/v1/options", "/sdapi/v1/interrupt", "/sdapi/v1/skip"):
        detail(client.post(rule, json={}), 401)


def test_pictures_may_be_as_large_as_elsewhere_and_other_bodies_are_small(
    app: OpenAPI, anna: Person, settings: Settings
) -> None:
    client = client_of(app, anna.key)
    for rule in GPU_RULES:
        limit_bytes = settings.max_small_body_bytes if rule.endswith("txt2img") else settings.max_body_bytes
        head: dict[str, Any] = {"CONTENT_LENGTH": str(limit_bytes + 1)}
        too_large = client.post(rule, content_type="application/json", environ_overrides=head)
        assert f"limit of {limit_bytes >> 20} MiB" in detail(too_large, 413)


def test_pictures_count_against_the_tenant_s_gpu_seconds(
    servers: Surroundings, dreambooth: Dreambooth, tmp_path: Path
) -> None:
    # Given a tenant with one second an hour
    settings = servers.settings(gpu_seconds_per_hour=1)
    with gateway(settings) as app:
        client = client_of(app, make_key(settings, "anna"))
        # When two pictures took half a second each
        for _ in range(2):
            assert client.post("/sdapi/v1/txt2img", json={"prompt": "a cat"}).status_code == 200
        # Then there is no time left, for any of the routes
        for rule in GPU_RULES:
            refused = client.post(rule, json={"prompt": "a cat"})
            assert "GPU" in detail(refused, 429) or "gpu" in detail(refused, 429)
            assert int(refused.headers["Retry-After"]) > 0
        # And what is not computed is told as ever, as is what was refused
        assert client.get("/sdapi/v1/sd-models").status_code == 200
        with opened(settings) as stores:
            rows = stores.database["usage"]
            assert wait_until(lambda: rows.count_documents({"route": "/sdapi/v1/txt2img"}) >= 3)
            made = list(rows.find({"route": "/sdapi/v1/txt2img", "status": 200}))
            assert [(row["gpu_seconds"], row["model"]) for row in made] == [(0.5, BASE)] * 2
            assert wait_until(lambda: rows.count_documents({"route": "/sdapi/v1/img2img"}) == 1)
            assert [row["code"] for row in rows.find({"route": "/sdapi/v1/img2img"})] == ["quota_exceeded"]
