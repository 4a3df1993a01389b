"""Kept pictures: made and told of as they get finished, given as they were made, and removed with all they have."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from PIL import Image
from small_models import publish, write_lora
from stand_in_service import Seen, error_http, http, json_http
from waiting import wait_until
from werkzeug.test import TestResponse

from enlight.main_api.gallery.files import PictureFiles
from enlight.main_api.gallery.gallery import Gallery, NewPicture
from enlight.main_api.gallery.generation_stream import MAX_AT_ONCE
from enlight.main_api.gallery.records import PictureRecords
from enlight.main_api.settings import Settings
from enlight.servicekit.errors import DatabaseUnavailable, NotFound, StorageUnavailable
from enlight.servicekit.object_store import SMALL_OBJECT_BYTES

SIDE_PX = 48


def png(shade: int, *, side_px: int = SIDE_PX, alpha: bool = False) -> bytes:
    """Another file for each shade."""
    picture = Image.linear_gradient("L").resize((side_px, side_px))
    picture = picture.point(lambda level: (level + shade) % 256).convert("RGB")
    if alpha:
        picture.putalpha(Image.radial_gradient("L").resize((side_px, side_px)))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def generated(seen: Seen, strength: float | None = None) -> bytes:
    """What dreambooth-api says: picture i is that of seed + i."""
    asked = json.loads(seen.body)
    count = asked.get("num_images", 1)
    return json_http(
        {
            "images": [b64encode(png(asked["seed"] + index)).decode() for index in range(count)],
            "format": asked.get("format", "png"),
            "model_id": asked["model_id"],
            "model_version": "01ABC",
            "base_model": "enlight/pocket",
            "seed": asked["seed"],
            "num_inference_steps": 25,
            "strength": strength,
            "guidance_scale": 7.5,
            "scheduler": "DDIMScheduler",
            "width": SIDE_PX,
            "height": SIDE_PX,
            "batch_images": count,
            "cache_tier": "gpu",
            "queued_s": 0,
            "run_s": 0.5,
        },
        headers={"X-Run-Seconds": "0.5"},
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("gallery")) as running:
        yield running


@pytest.fixture(autouse=True)
def around(servers: Surroundings) -> Surroundings:
    for service in servers.behind.values():
        service.seen.clear()
    servers.behind["dreambooth"].answer = generated
    servers.behind["bgrem"].answer = lambda seen: http(png(1, alpha=True), content_type="image/png")
    servers.behind["realesrgan"].answer = lambda seen: http(png(2, side_px=1024), content_type="image/png")
    return servers


@pytest.fixture(scope="module")
def settings(servers: Surroundings) -> Settings:
    return servers.settings(max_pictures=40, gpu_seconds_per_hour=1000)


@dataclass
class Person:
    """Who sends requests, with a model of a name that others have too."""

    client: FlaskClient
    tenant: str
    bucket_id: str


_people = iter(range(10**6))


@pytest.fixture
def anna(app: OpenAPI, settings: Settings, tmp_path: Path) -> Person:
    return person(app, settings, tmp_path)


@pytest.fixture
def berta(app: OpenAPI, settings: Settings, tmp_path: Path) -> Person:
    return person(app, settings, tmp_path)


def person(app: OpenAPI, settings: Settings, folder: Path) -> Person:
    tenant = f"tenant-{next(_people)}"
    with opened(settings) as stores:
        bucket_id = stores.names.reserve(tenant, "robot")
        publish(stores.models, bucket_id, write_lora(folder / tenant, seed=1), "lora")
    return Person(client_of(app, make_key(settings, tenant)), tenant, bucket_id)


def events(response: TestResponse) -> list[tuple[str, dict[str, Any]]]:
    """The stream's events, to its end."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    found = []
    for block in response.text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    response.close()  # as a server does at the end
    return found


def make(person: Person, **more: Any) -> list[dict[str, Any]]:
    """Pictures that are kept now."""
    body = {"model_id": "robot", "prompt": "a sks robot", **more}
    *pictures, (last, told) = events(person.client.post("/v1/pictures", json=body))
    assert (last, told) == ("end", {"made": len(pictures)})
    return [picture for _, picture in pictures]


# Making


def test_each_picture_is_told_of_and_kept_with_what_it_was_made_with(anna: Person) -> None:
    made = make(anna, num_images=8, seed=40, negative_prompt="fog", guidance_scale=6)
    assert [picture["parameters"]["seed"] for picture in made] == [str(40 + index) for index in range(8)]
    first = made[0]
    assert first["parameters"] == {
        "prompt": "a sks robot",
        "negative_prompt": "fog",
        "seed": "40",
        "model_version": "01ABC",
        "base_model": "enlight/pocket",
        "num_inference_steps": 25,
        "guidance_scale": 7.5,
        "scheduler": "DDIMScheduler",
        "width": SIDE_PX,
        "height": SIDE_PX,
        "format": "png",
    }
    assert (first["kind"], first["model_id"], first["source_id"]) == ("generation", "robot", None)
    assert (first["width"], first["height"], first["content_type"]) == (SIDE_PX, SIDE_PX, "image/png")
    for index, picture in enumerate(made):
        assert anna.client.get(f"/v1/pictures/{picture['id']}").json == picture
        assert anna.client.get(f"/v1/pictures/{picture['id']}/file").data == png(40 + index)


def test_a_picture_to_begin_from_is_handed_on_and_its_traces_are_kept(around: Surroundings, anna: Person) -> None:
    # Given pictures to begin from, whole and masked
    given = b64encode(png(1)).decode()
    for fields, kept in (
        ({"image": given}, {"with_mask": False, "strength": 0.8}),
        ({"image": given, "mask": given, "strength": 0.5}, {"with_mask": True, "strength": 0.5, "keep_unmasked": True}),
        (
            {"image": given, "mask": given, "keep_unmasked": False},
            {"with_mask": True, "strength": 1.0, "keep_unmasked": False},
        ),
    ):
        around.behind["dreambooth"].seen.clear()
        around.behind["dreambooth"].answer = partial(generated, strength=kept["strength"])
        # When pictures are made of them
        made = make(anna, num_images=2, seed=3, **fields)
        # Then each round carries them on as they came
        for seen in around.behind["dreambooth"].seen:
            assert fields.items() <= json.loads(seen.body).items()
        # And what is kept says that there were some, and how much of them stayed, not what they showed
        for picture in made:
            assert {"from_image": True, **kept}.items() <= picture["parameters"].items()
            assert given not in json.dumps(picture)


def test_the_first_picture_comes_alone_and_the_rest_together(around: Surroundings, anna: Person) -> None:
    make(anna, num_images=12, seed=5, width=64)
    asked = [json.loads(seen.body) for seen in around.behind["dreambooth"].seen]
    assert [body["num_images"] for body in asked] == [1, 1, 2, 4, 4]
    assert max(body["num_images"] for body in asked) == MAX_AT_ONCE
    assert [body["seed"] for body in asked] == [5, 6, 7, 9, 13]
    assert {(body["model_id"], body["prompt"], body["width"]) for body in asked} == {
        (anna.bucket_id, "a sks robot", 64)
    }
    assert {seen.headers["X-Model-Id"] for seen in around.behind["dreambooth"].seen} == {anna.bucket_id}


def test_a_picture_is_told_of_before_the_next_is_asked_for(around: Surroundings, anna: Person) -> None:
    response = anna.client.post(
        "/v1/pictures", json={"model_id": "robot", "prompt": "a robot", "num_images": 2}, buffered=False
    )
    stream = response.iter_encoded()
    assert next(stream).startswith(b"event: picture\n")
    assert len(around.behind["dreambooth"].seen) == 1
    response.close()
    assert len(around.behind["dreambooth"].seen) == 1


def test_without_a_seed_each_request_has_its_own_which_is_told(anna: Person) -> None:
    seeds = {make(anna)[0]["parameters"]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_a_base_models_pictures_are_kept_too(around: Surroundings, anna: Person) -> None:
    (picture,) = make(anna, model_id="enlight/pocket")
    assert picture["model_id"] == "enlight/pocket"
    (seen,) = around.behind["dreambooth"].seen
    assert json.loads(seen.body)["model_id"] == "enlight/pocket"
    response = anna.client.get(f"/v1/pictures/{picture['id']}/file?download=true")
    seed = picture["parameters"]["seed"]
    expected = f'attachment; filename="enlight-pocket-generation-{seed}.png"'
    assert response.headers["Content-Disposition"] == expected


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"num_images": 0}, 422, "num_images"),
        ({"num_images": 51}, 422, "num_images"),
        ({"seed": 2**63 - 1, "num_images": 2}, 422, "seed"),
        ({"prompt": ""}, 422, "prompt"),
        ({"prompt": {"$ne": ""}}, 422, "prompt"),
        ({"colour": "red"}, 422, "colour"),
        ({"model_id": "somebody-elses"}, 404, ""),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_made(
    around: Surroundings, anna: Person, change: dict[str, Any], status: int, named: str
) -> None:
    response = anna.client.post("/v1/pictures", json={"model_id": "robot", "prompt": "a robot", **change})
    assert_error(response, status, "not_found" if status == 404 else "invalid_field")
    assert named in response.text
    assert around.behind["dreambooth"].seen == []


def test_the_largest_seed_is_one(anna: Person) -> None:
    (picture,) = make(anna, seed=2**63 - 1)
    assert picture["parameters"]["seed"] == str(2**63 - 1)


def test_a_failure_of_the_first_picture_is_the_answer_and_names_no_bucket_id(
    around: Surroundings, anna: Person
) -> None:
    def refuse(seen: Seen) -> bytes:
        message = {"message": f"{anna.bucket_id} is too large.", "error": {"code": "out_of_gpu_memory", "details": {}}}
        return json_http(message, status=503)

    around.behind["dreambooth"].answer = refuse
    response = anna.client.post("/v1/pictures", json={"model_id": "robot", "prompt": "a robot"})
    assert_error(response, 503, "out_of_gpu_memory")
    assert response.json is not None
    assert response.json["message"] == "robot is too large."
    assert anna.client.get("/v1/pictures").json == {"pictures": [], "next": None}


@pytest.mark.parametrize(
    "change",
    [
        {"images": ["AAAA"]},
        {"images": ["AA=A"]},
        {"images": ["!" + b64encode(png(1)).decode()]},
        {"images": []},
        {"images": [b64encode(png(1)).decode()] * 2},
        {"seed": "x"},
        {"scheduler": None},
    ],
)
def test_a_service_that_lies_is_a_502_and_nothing_is_kept(
    around: Surroundings, anna: Person, change: dict[str, Any]
) -> None:
    def lie(seen: Seen) -> bytes:
        return json_http(json.loads(generated(seen).partition(b"\r\n\r\n")[2]) | change)

    around.behind["dreambooth"].answer = lie
    response = anna.client.post("/v1/pictures", json={"model_id": "robot", "prompt": "a robot"})
    assert_error(response, 502, "upstream_failed")
    assert anna.client.get("/v1/pictures").json == {"pictures": [], "next": None}


def test_a_later_failure_is_told_and_what_was_made_stays(around: Surroundings, anna: Person) -> None:
    def one_only(seen: Seen) -> bytes:
        is_first = json.loads(seen.body)["seed"] == 7
        return generated(seen) if is_first else error_http(503, "worker_unavailable")

    around.behind["dreambooth"].answer = one_only
    body = {"model_id": "robot", "prompt": "a robot", "num_images": 3, "seed": 7}
    (first, picture), (last, told) = events(anna.client.post("/v1/pictures", json=body))
    assert (first, last) == ("picture", "error")
    assert told == {"code": "worker_unavailable", "message": "No.", "made": 1}
    assert anna.client.get("/v1/pictures").json["pictures"] == [picture]  # type: ignore[index]


def test_the_gpus_time_of_every_picture_is_counted(app: OpenAPI, settings: Settings, anna: Person) -> None:
    make(anna, num_images=3)  # 1 + 1 + 1: three answers of half a second

    def counted() -> list[tuple[str, float]]:
        with opened(settings) as stores:
            rows = stores.database["usage"].find({"tenant": anna.tenant, "route": "/v1/pictures"})
            return [(row["model"], row["gpu_seconds"]) for row in rows]

    assert wait_until(lambda: counted() == [("robot", 1.5)]), counted()


def test_a_tenant_without_gpu_seconds_gets_no_more_pictures(servers: Surroundings, tmp_path: Path) -> None:
    few = servers.settings(gpu_seconds_per_hour=1)
    with gateway(few) as app:
        somebody = person(app, few, tmp_path)
        make(somebody, num_images=3)
        response = somebody.client.post("/v1/pictures", json={"model_id": "robot", "prompt": "a robot"})
        assert_error(response, 429, "quota_exceeded")


def test_no_more_pictures_are_kept_than_may_be(servers: Surroundings, tmp_path: Path) -> None:
    few = servers.settings(max_pictures=2)
    with gateway(few) as app:
        somebody = person(app, few, tmp_path)
        body = {"model_id": "robot", "prompt": "a robot", "num_images": 3}
        assert_error(somebody.client.post("/v1/pictures", json=body), 429, "quota_exceeded")
        made = make(somebody, num_images=2)
        full = f"/v1/pictures/{made[0]['id']}/cutout"
        assert_error(somebody.client.post(full, json={}), 429, "quota_exceeded")
        somebody.client.delete(f"/v1/pictures/{made[1]['id']}")
        assert somebody.client.post(full, json={}).status_code == 201


def test_a_stream_holds_one_place_until_it_is_over(servers: Surroundings, tmp_path: Path) -> None:
    one = servers.settings(max_requests=1)
    with gateway(one) as app:
        somebody = person(app, one, tmp_path)
        body = {"model_id": "robot", "prompt": "a robot", "num_images": 2}
        streaming = somebody.client.post("/v1/pictures", json=body, buffered=False)
        next(streaming.iter_encoded())
        assert_error(somebody.client.post("/v1/pictures", json=body), 503, "queue_full")
        streaming.close()
        assert len(make(somebody, num_images=2)) == 2


def test_the_memory_of_a_picture_is_free_for_the_next(servers: Surroundings, tmp_path: Path) -> None:
    def padded(seen: Seen) -> bytes:
        return json_http(json.loads(generated(seen).partition(b"\r\n\r\n")[2]) | {"scheduler": "x" * 10_000})

    servers.behind["dreambooth"].answer = padded
    little = servers.settings(max_buffered_bytes=25_000)
    with gateway(little) as app:
        assert len(make(person(app, little, tmp_path), num_images=8)) == 8


# What is made of a picture


def test_a_cut_out_is_kept_beside_its_picture(around: Surroundings, anna: Person) -> None:
    (picture,) = make(anna, seed=3)
    response = anna.client.post(f"/v1/pictures/{picture['id']}/cutout", json={"model": "u2netp", "background": "#fff"})
    assert response.status_code == 201, response.text
    made: Any = response.json
    assert response.headers["Location"] == f"/v1/pictures/{made['id']}"
    assert (made["kind"], made["source_id"], made["model_id"]) == ("cutout", picture["id"], "robot")
    assert made["parameters"] == {"model": "u2netp", "background": "#fff"}
    (seen,) = around.behind["bgrem"].seen
    assert seen.path == "/v1/cutout?model=u2netp&background=%23fff"
    assert (seen.body, seen.headers["Content-Type"]) == (png(3), "image/png")
    assert anna.client.get(f"/v1/pictures/{made['id']}/file").data == png(1, alpha=True)
    small = Image.open(io.BytesIO(anna.client.get(f"/v1/pictures/{made['id']}/thumbnail").data))
    assert (small.format, small.has_transparency_data) == ("WEBP", True)


def test_an_enlarged_picture_is_kept_beside_its_picture(around: Surroundings, anna: Person) -> None:
    (picture,) = make(anna, seed=3)
    response = anna.client.post(f"/v1/pictures/{picture['id']}/upscale", json={"out_resolution": 1024})
    assert response.status_code == 201, response.text
    made: Any = response.json
    assert (made["kind"], made["source_id"], made["width"]) == ("upscale", picture["id"], 1024)
    (seen,) = around.behind["realesrgan"].seen
    assert seen.path == "/v1/upscale?out_resolution=1024&model_name=RealESRGAN_x4plus&face_enhance=False".replace(
        "False", "false"
    )
    thumbnails = [anna.client.get(f"/v1/pictures/{one}/thumbnail").data for one in (picture["id"], made["id"])]
    assert thumbnails[0] == thumbnails[1]


def test_what_the_service_says_of_a_wrong_option_is_the_answer(around: Surroundings, anna: Person) -> None:
    (picture,) = make(anna)
    around.behind["bgrem"].answer = lambda seen: error_http(422, "invalid_field")
    response = anna.client.post(f"/v1/pictures/{picture['id']}/cutout", json={"model": "nonsense"})
    assert_error(response, 422, "invalid_field")
    assert len(anna.client.get("/v1/pictures").json["pictures"]) == 1  # type: ignore[index]


@pytest.mark.parametrize("size", [1023, 8193, "1024", 1024.5])
def test_a_wrong_size_is_named(anna: Person, size: object) -> None:
    (picture,) = make(anna)
    response = anna.client.post(f"/v1/pictures/{picture['id']}/upscale", json={"out_resolution": size})
    assert_error(response, 422, "invalid_field")
    assert "out_resolution" in response.text


# Reading


def test_pictures_are_listed_page_by_page_and_filtered(anna: Person) -> None:
    made = make(anna, num_images=3)
    cut_out: Any = anna.client.post(f"/v1/pictures/{made[0]['id']}/cutout", json={}).json
    newest_first = [cut_out["id"], *(picture["id"] for picture in reversed(made))]

    def page(**query: Any) -> tuple[list[str], str | None]:
        answer: Any = anna.client.get("/v1/pictures", query_string=query).json
        return [picture["id"] for picture in answer["pictures"]], answer["next"]

    assert page() == (newest_first, None)
    first, rest = page(limit=3)
    assert (first, rest) == (newest_first[:3], newest_first[2])
    assert page(limit=3, before=rest) == (newest_first[3:], None)
    assert page(kind="cutout") == (newest_first[:1], None)
    assert page(model_id="robot") == (newest_first, None)
    assert page(model_id="other") == ([], None)
    assert page(source_id=made[0]["id"]) == (newest_first[:1], None)
    oldest = newest_first[3]
    assert page(after=oldest) == (newest_first[:3], None)
    assert page(after=oldest, limit=1) == (newest_first[2:3], None)  # the one next to it
    assert page(after=oldest, before=newest_first[0], limit=1) == (newest_first[1:2], newest_first[1])
    assert page(after=newest_first[0]) == ([], None)
    assert_error(anna.client.get("/v1/pictures?kind=stolen"), 422, "invalid_field")
    assert_error(anna.client.get("/v1/pictures?limit=0"), 422, "invalid_field")


def test_a_browser_may_keep_a_picture_forever_and_runs_nothing_of_it(anna: Person) -> None:
    (picture,) = make(anna, seed=9)
    response = anna.client.get(f"/v1/pictures/{picture['id']}/file")
    assert response.content_type == "image/png"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"] == 'inline; filename="robot-generation-9.png"'
    assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response.headers["ETag"] == f'"{picture["sha256"]}"'
    again = anna.client.get(f"/v1/pictures/{picture['id']}/file", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_thumbnails_are_small(around: Surroundings, anna: Person) -> None:
    around.behind["bgrem"].answer = lambda seen: http(png(1, side_px=1000), content_type="image/png")
    (picture,) = make(anna)
    large: Any = anna.client.post(f"/v1/pictures/{picture['id']}/cutout", json={}).json
    for picture_id, side_px in ((picture["id"], SIDE_PX), (large["id"], 384)):
        response = anna.client.get(f"/v1/pictures/{picture_id}/thumbnail")
        assert response.content_type == "image/webp"
        assert Image.open(io.BytesIO(response.data)).size == (side_px, side_px)


def test_what_was_changed_in_the_bucket_is_not_given_out(settings: Settings, anna: Person) -> None:
    (picture,) = make(anna, seed=1)
    with opened(settings) as stores:
        key = f"{picture['id']}/picture"
        kept, generation = stores.pictures.get_bytes(key)
        stores.pictures.put_bytes(key, kept[:-1] + b"?", if_generation=generation)
    assert_error(anna.client.get(f"/v1/pictures/{picture['id']}/file"), 503, "storage_unavailable")


def test_to_others_a_picture_does_not_exist(around: Surroundings, anna: Person, berta: Person) -> None:
    (picture,) = make(anna)
    path = f"/v1/pictures/{picture['id']}"
    for response in (
        berta.client.get(path),
        berta.client.get(f"{path}/file"),
        berta.client.get(f"{path}/thumbnail"),
        berta.client.post(f"{path}/cutout", json={}),
        berta.client.post(f"{path}/upscale", json={}),
        berta.client.delete(path),
        berta.client.get("/v1/pictures/..%2f..%2fetc"),
    ):
        assert_error(response, 404, "not_found")
    assert berta.client.get("/v1/pictures").json == {"pictures": [], "next": None}
    assert around.behind["bgrem"].seen == around.behind["realesrgan"].seen == []
    assert anna.client.get(path).status_code == 200


# Removing, and what goes wrong on the way


def keys(settings: Settings, picture_id: str) -> list[str]:
    """What the picture has in the bucket."""
    with opened(settings) as stores:
        return [info.key.partition("/")[2] for info in stores.pictures.list(f"{picture_id}/")]


def test_a_removed_picture_is_gone_with_its_files_and_what_was_made_of_it_stays(
    settings: Settings, anna: Person
) -> None:
    (picture,) = make(anna)
    cut_out: Any = anna.client.post(f"/v1/pictures/{picture['id']}/cutout", json={}).json
    assert keys(settings, picture["id"]) == ["picture", "thumbnail"]
    response = anna.client.delete(f"/v1/pictures/{picture['id']}")
    assert (response.status_code, response.data) == (204, b"")
    assert keys(settings, picture["id"]) == []
    for path in ("", "/file", "/thumbnail"):
        assert_error(anna.client.get(f"/v1/pictures/{picture['id']}{path}"), 404, "not_found")
    assert_error(anna.client.delete(f"/v1/pictures/{picture['id']}"), 404, "not_found")
    assert anna.client.get(f"/v1/pictures/{cut_out['id']}/file").status_code == 200


@pytest.fixture
def gallery(settings: Settings) -> Iterator[Gallery]:
    with opened(settings) as stores:
        yield Gallery(PictureRecords(stores.database), PictureFiles(stores.pictures), max_pictures=10)


def new_picture(data: bytes) -> NewPicture:
    return NewPicture("generation", data, "image/png", {}, "robot")


def test_a_picture_without_a_record_leaves_no_files(
    settings: Settings, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(picture: object) -> None:
        raise DatabaseUnavailable("The database is away.")

    monkeypatch.setattr(gallery.records, "add", away)
    with opened(settings) as stores:
        before = {info.key for info in stores.pictures.list()}
        with pytest.raises(DatabaseUnavailable):
            gallery.keep("carla", new_picture(png(1)))
        assert {info.key for info in stores.pictures.list()} == before


def test_files_that_a_crash_left_are_swept_and_no_others(settings: Settings, gallery: Gallery) -> None:
    kept, lost = (gallery.keep("dora", new_picture(png(shade))) for shade in (1, 2))
    gallery.records.remove("dora", lost.id)
    gallery.sweep()
    assert keys(settings, lost.id) == ["picture", "thumbnail"]  # it may be on its way to its record
    gallery.sweep(untouched_s=-1)
    assert keys(settings, lost.id) == []
    assert gallery.files.read(kept) == png(1)


def test_nothing_is_swept_on_a_guess(settings: Settings, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = gallery.keep("emma", new_picture(png(1)))

    def away(picture_id: str) -> bool:
        raise DatabaseUnavailable("The database is away.")

    monkeypatch.setattr(gallery.records, "exists", away)
    with pytest.raises(DatabaseUnavailable):
        gallery.sweep(untouched_s=-1)
    assert keys(settings, kept.id) == ["picture", "thumbnail"]


def test_a_large_picture_is_kept_too(gallery: Gallery) -> None:
    file = io.BytesIO()
    Image.effect_noise((2400, 2400), 90).save(file, "PNG")
    large = file.getvalue()
    assert len(large) > SMALL_OBJECT_BYTES
    picture = gallery.keep("fritzi", new_picture(large))
    assert gallery.files.read(picture) == large


def test_a_picture_that_goes_while_it_is_read_is_not_there(gallery: Gallery) -> None:
    picture = gallery.keep("gerda", new_picture(png(1)))
    gallery.files.remove(picture.id)
    with pytest.raises(NotFound):
        gallery.files.read(picture)
    with pytest.raises(NotFound):
        gallery.files.read_thumbnail(picture)


def test_a_bucket_that_is_away_is_a_503_and_nothing_is_kept(
    servers: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = servers.settings()
    with gateway(own) as app:
        somebody = person(app, own, tmp_path)

        def away(self: PictureFiles, picture_id: str, data: bytes, thumbnail: bytes) -> None:
            raise StorageUnavailable("The bucket is away.")

        monkeypatch.setattr(PictureFiles, "put", away)
        response = somebody.client.post("/v1/pictures", json={"model_id": "robot", "prompt": "a robot"})
        assert_error(response, 503, "storage_unavailable")
        assert somebody.client.get("/v1/pictures").json == {"pictures": [], "next": None}
