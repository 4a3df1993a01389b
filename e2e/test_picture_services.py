"""Bad requests to the three picture services get a clear 4xx that names the field; nothing that a client sends makes
a 5xx or ends a worker. What broken pictures do is in test_picture_corpora.py."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from clients import get
from odd_pictures import accepted, refused
from picture_services import (
    BYTES_ROUTES,
    JSON_ROUTES,
    SERVICES,
    PictureRoute,
    PictureService,
    assert_refused,
    route_name,
    running_picture_services,
)
from PIL import Image

from enlight.servicekit.images import decode_picture

MAX_BODY_BYTES = 3_000_000


def picture_file(width_px: int = 40, height_px: int = 20) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((width_px, height_px)).convert("RGB").save(file, "PNG")
    return file.getvalue()


PICTURE = picture_file()
REMOVE, REMOVE_OPACITY, REALESRGAN, UPSAMPLER = JSON_ROUTES
CUTOUT, REMBG, REALESRGAN_BYTES, UPSAMPLER_BYTES = BYTES_ROUTES

# Made once: some of them hold hundreds of megabytes, unpacked.
ACCEPTED, REFUSED = accepted(), refused()

Services = dict[str, PictureService]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with running_picture_services(folder, max_body_bytes=MAX_BODY_BYTES) as running:
        yield running
        for service in running.values():
            service.assert_unharmed()


def post_json(service: PictureService, route: PictureRoute, **changes: object) -> requests.Response:
    return requests.post(service.local.url + route.path, json=route.json_body(PICTURE, **changes), timeout=60)


def post_raw(service: PictureService, path: str, body: bytes | str, **headers: str) -> requests.Response:
    data = body.encode() if isinstance(body, str) else body
    return requests.post(
        service.local.url + path, data=data, headers={"Content-Type": "application/json"} | headers, timeout=60
    )


def post_picture(service: PictureService, path: str) -> requests.Response:
    return post_raw(service, path, PICTURE, **{"Content-Type": "image/png"})


def post_form(service: PictureService, route: PictureRoute, *parts: bytes, end: bytes = b"--edge--\r\n") -> Any:
    """A multipart form as it is written: each part with its headers."""
    body = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + end
    return post_raw(service, route.path, body, **{"Content-Type": "multipart/form-data; boundary=edge"})


def file_part(name: str, data: bytes = PICTURE, *, filename: bytes = b"a.png") -> bytes:
    header = b'Content-Disposition: form-data; name="%b"; filename="%b"\r\n' % (name.encode(), filename)
    return header + b"Content-Type: image/png\r\n\r\n" + data


def text_part(name: bytes, text: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%b"\r\n\r\n' % name + text


# ---------------------------------------------------------------------------------------------------------------------
# JSON


@pytest.mark.parametrize("route", JSON_ROUTES, ids=route_name)
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("not JSON", "hello"),
        ("empty", ""),
        ("half an object", '{"image": "a"'),
        ("NaN", '{"denoise_strength": NaN}'),
        ("Infinity", '{"denoise_strength": Infinity}'),
        ("minus Infinity", '{"denoise_strength": -Infinity}'),
        ("a number beyond floating point", '{"denoise_strength": 1e999}'),
        ("a number of 5,000 digits", '{"resolution": ' + "9" * 5000 + "}"),
        ("the same key twice", '{"image": "a", "image": "b"}'),
        ("a lone surrogate", '{"prompt": "\\ud800"}'),
        ("100,000 brackets", "[" * 100_000),
        ("100,000 closed brackets", "[" * 100_000 + "]" * 100_000),
        ("100,000 nested objects", '{"a":' * 100_000),
        ("200,000 keys", "{" + ",".join(f'"{key}":1' for key in range(200_000)) + "}"),
        ("not UTF-8", b'{"prompt": "\xff\xfe"}'),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_not_strict_json_is_400(services: Services, route: PictureRoute, name: str, body: str | bytes) -> None:
    service = services[route.service]
    field = "denoise_strength" if "denoise_strength" in str(body) else None
    assert_refused(service, post_raw(service, route.path, body), 400, "invalid_request", field)


@pytest.mark.parametrize("route", JSON_ROUTES, ids=route_name)
@pytest.mark.parametrize("body", ["null", "[]", "3", '"text"', "true"])
def test_json_that_is_no_object_is_422(services: Services, route: PictureRoute, body: str) -> None:
    service = services[route.service]
    assert_refused(service, post_raw(service, route.path, body), 422, "invalid_field", "body")


@pytest.mark.parametrize("route", JSON_ROUTES, ids=route_name)
def test_each_missing_field_and_an_unknown_one_are_named(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    required = {route.field_named} | ({"prompt"} if route is UPSAMPLER else set())
    for name in required:
        body = {key: value for key, value in route.json_body(PICTURE).items() if key != name}
        answer = post_raw(service, route.path, json.dumps(body))
        assert_refused(service, answer, 422, "invalid_field", name)
    assert_refused(service, post_json(service, route, SURPRISE=1), 422, "invalid_field", "SURPRISE")


NO_TEXTS: list[Any] = [None, 3, 1.5, True, ["a"], {"$ne": None}]
NO_NUMBERS: list[Any] = [None, True, "1024", "1_024", "١٠٢٤", "big", [1024], {"$gt": 0}, 1024.5]
NO_MODELS = [*NO_TEXTS, "", "unknown", "../u2net", "U2NET", "u2net\0", "u2net\n", "$(touch canary)", "x" * 100_000]
REMOTE_MODELS = ["u2net_custom", "bria-rmbg", "sam", "ben_custom", "withoutbg", "birefnet-general"]

VALUES: list[tuple[PictureRoute, str, list[Any]]] = [
    *[(route, route.field_named, NO_TEXTS) for route in JSON_ROUTES],
    (REMOVE, "model", [*NO_MODELS, *REMOTE_MODELS]),
    (REMOVE_OPACITY, "model", [*NO_MODELS, *REMOTE_MODELS]),
    (REALESRGAN, "model_name", [*NO_MODELS, "RealESRGAN_x8plus", "RealESRGAN_x4plus.pth"]),
    (REALESRGAN, "out_resolution", [*NO_NUMBERS, 0, -1024, 1023, 8193, 10**30, "8K"]),
    (REALESRGAN, "face_enhance", [None, 0, 1, "true", "false", []]),
    (REALESRGAN, "denoise_strength", [-0.1, 1.1, "0.5", "NaN", True, [0.5], 10**30, 0.5]),  # the last for the model
    (UPSAMPLER, "prompt", [*NO_TEXTS, "", "   ", "a\0b", "x" * 2001, "x" * 1_000_000]),
    (UPSAMPLER, "resolution", [*NO_NUMBERS, 1024.0, 0, -1024, 512, 1023, 2047, 4096, 10**30]),
    (UPSAMPLER, "mblimit", [*NO_TEXTS[:3], True, False, 5, "", "yes", "True", "TRUE", "5MB", "true "]),
]


@pytest.mark.parametrize(
    ("route", "field", "values"), VALUES, ids=lambda value: "" if isinstance(value, list) else route_name(value)
)
def test_a_bad_value_is_422_and_its_field_named(
    services: Services, route: PictureRoute, field: str, values: list[Any]
) -> None:
    service = services[route.service]
    for value in values:
        assert_refused(service, post_json(service, route, **{field: value}), 422, "invalid_field", field)


@pytest.mark.parametrize("strength", [-0.1, 1.1, -1e-9, "0.5", True])
def test_a_wrong_strength_is_refused_where_the_model_takes_one(services: Services, strength: Any) -> None:
    service = services["realesrgan"]
    answer = post_json(service, REALESRGAN, model_name="realesr-general-x4v3", denoise_strength=strength)
    assert_refused(service, answer, 422, "invalid_field", "denoise_strength")


def test_a_whole_number_written_with_a_point_is_no_whole_number(services: Services) -> None:
    service = services["realesrgan"]
    answer = post_json(service, REALESRGAN, out_resolution=1024.0)
    assert_refused(service, answer, 422, "invalid_field", "out_resolution")


def test_a_model_without_weights_says_which_file_it_needs(services: Services) -> None:
    service = services["realesrgan"]
    answer = post_json(service, REALESRGAN, model_name="RealESRNet_x4plus")
    assert_refused(service, answer, 503, "weights_unavailable", "RealESRNet_x4plus")
    assert int(answer.headers["Retry-After"]) > 0
    service.assert_unharmed()


@pytest.mark.parametrize("route", JSON_ROUTES, ids=route_name)
def test_odd_pictures_that_are_read(services: Services, route: PictureRoute) -> None:
    service = services[route.service]

    def size(name: str) -> tuple[str, tuple[int, int]]:
        answer = route.post(service, base64.b64decode(ACCEPTED[name]))
        assert answer.status_code == 200, f"{name}: {answer.text[:500]}"
        return name, route.picture(answer).size

    names = list(ACCEPTED) if route is not UPSAMPLER else ["EXIF-turned JPEG", "grey and alpha PNG", "HEIC"]
    with ThreadPoolExecutor(4) as clients:
        sizes = dict(clients.map(size, names))
    for name in names:
        picture = decode_picture(base64.b64decode(ACCEPTED[name]), "picture")
        assert sizes[name] == route.size(picture.width_px, picture.height_px), name


@pytest.mark.parametrize("route", JSON_ROUTES, ids=route_name)
@pytest.mark.parametrize("name", REFUSED)
def test_pictures_that_are_not_read_are_named(services: Services, route: PictureRoute, name: str) -> None:
    service = services[route.service]
    picture, status, code = REFUSED[name]
    answer = post_json(service, route, **{route.field_named: picture})
    assert_refused(service, answer, status, code, route.field_named)


def test_prompts_that_only_look_dangerous_are_just_text(services: Services) -> None:
    service = services["upsampler"]
    prompts = ["{{7*7}} $(touch canary) \"; rm -rf / ' OR 1=1", "a\nb", "🍕" * 100 + "\u202eabc a\u200bb", "x" * 2000]
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda prompt: post_json(service, UPSAMPLER, prompt=prompt), prompts))
    assert [answer.json()["status"] for answer in answers] == ["true"] * len(prompts)


def test_a_small_limit_in_megabytes_is_kept(services: Services) -> None:
    answer = post_json(services["upsampler"], UPSAMPLER, mblimit="true")
    assert answer.status_code == 200
    assert len(base64.b64decode(answer.json()["image"])) <= 5_000_000


# ---------------------------------------------------------------------------------------------------------------------
# Bytes, with parameters in the query


QUERIES: list[tuple[PictureRoute, str, list[str]]] = [
    (CUTOUT, "model", ["unknown", "bria-rmbg", "", "u2net%00", "..%2fu2net"]),
    (CUTOUT, "format", ["gif", "PNG", "", "jpeg"]),  # jpeg has no transparency
    (CUTOUT, "quality", ["0", "101", "1_0", "٩", "nan", "1e1", "", "99999999999999999999"]),
    (CUTOUT, "background", ["red;", "256,0,0", "#12345", "1,2", "", "%00", "٩,٩,٩"]),
    (CUTOUT, "only_mask", ["maybe", "2", "null"]),
    (CUTOUT, "alpha_matting_erode_size", ["-1", "256", "1.5"]),
    (CUTOUT, "cloth_category", ["socks", ""]),
    (REMBG, "url", ["http://127.0.0.1/", "file:///etc/passwd", ""]),
    (REMBG, "model", ["u2net_custom", "sam"]),
    (REMBG, "af", ["-1", "256", "1_0"]),
    (REMBG, "bgc", ["white", "1,2", "1,2,3,4,5", "256,0,0,0"]),
    (REMBG, "extras", ["3", "[1]", "%7B", "%7B%22model_path%22:%22/etc/passwd%22%7D", "%5B" * 1000, "NaN"]),
    (REMBG, "vm", ["true"]),
    (REALESRGAN_BYTES, "out_resolution", ["1023", "8193", "big", "1_024", "1024.5", "%D9%A1", "", "nan", "-0"]),
    (REALESRGAN_BYTES, "denoise_strength", ["nan", "inf", "-0.1", "1.1", "0_1", "0.5"]),
    (REALESRGAN_BYTES, "model_name", ["x", "", "..%2fx"]),
    (REALESRGAN_BYTES, "face_enhance", ["maybe", "2", ""]),
    (REALESRGAN_BYTES, "quality", ["0", "101", "50"]),  # png has none
    (UPSAMPLER_BYTES, "resolution", ["1023", "1_024", "big", "1024.0", "%D9%A1", "nan", ""]),
    (UPSAMPLER_BYTES, "seed", ["-1", "9223372036854775808", "1e3", "1_0", "nan"]),
    (UPSAMPLER_BYTES, "guidance_scale", ["nan", "inf", "-1", "51", "1e1"]),
    (UPSAMPLER_BYTES, "noise_level", ["-1", "351", "1.5"]),
    (UPSAMPLER_BYTES, "num_inference_steps", ["0", "251", "1000000000"]),
    (UPSAMPLER_BYTES, "prompt", ["%00", "x" * 3000]),
    (UPSAMPLER_BYTES, "format", ["gif", "PNG"]),
]


@pytest.mark.parametrize(
    ("route", "field", "values"), QUERIES, ids=lambda value: "" if isinstance(value, list) else route_name(value)
)
def test_a_bad_parameter_is_422_and_named(
    services: Services, route: PictureRoute, field: str, values: list[str]
) -> None:
    service = services[route.service]
    for value in values:
        answer = post_picture(service, f"{route.rule}?{field}={value}")
        assert_refused(service, answer, 422, "invalid_field", field)


@pytest.mark.parametrize("route", BYTES_ROUTES, ids=route_name)
def test_an_unknown_parameter_and_one_given_twice_are_named(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    known = {"bgrem": "model=u2netp", "realesrgan": "out_resolution=1024", "upsampler": "resolution=1024"}[
        route.service
    ]
    name = known.partition("=")[0]
    answer = post_picture(service, f"{route.rule}?SURPRISE=1")
    assert_refused(service, answer, 422, "invalid_field", "SURPRISE")
    answer = post_picture(service, f"{route.rule}?{known}&{known}")
    assert_refused(service, answer, 422, "invalid_field", name)
    field = route.takes or "file"
    answer = requests.post(
        f"{service.local.url}{route.rule}?{known}",
        files={field: ("a.png", PICTURE)},
        data=dict([known.split("=")]),
        timeout=60,
    )
    assert_refused(service, answer, 422, "invalid_field", name)


def test_pictures_are_not_fetched_for_anybody(services: Services) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(1)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for method in ("GET", "POST"):
            answer = requests.request(
                method, f"{services['bgrem'].local.url}/api/remove", params={"url": address}, timeout=60
            )
            assert_refused(services["bgrem"], answer, 422, "invalid_field")
        with pytest.raises(TimeoutError):
            listener.accept()


# ---------------------------------------------------------------------------------------------------------------------
# Forms


def form_field(route: PictureRoute) -> str:
    return route.takes or "file"


@pytest.mark.parametrize("route", BYTES_ROUTES, ids=route_name)
def test_a_form_has_one_file_in_a_known_field(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    name = form_field(route)
    cases = {
        "no part at all": ([], name),
        "no file": ([text_part(b"model", b"u2netp")], None),
        "the picture as text": ([text_part(name.encode(), PICTURE)], name),
        "two files": ([file_part(name), file_part(name)], name),
        "another field": ([file_part("picture")], "picture"),
        "another field besides": ([file_part(name), file_part("picture")], "picture"),
        "an empty file": ([file_part(name, b"")], name),
        "a text field twice": ([file_part(name), text_part(b"format", b"png"), text_part(b"format", b"png")], "format"),
        "an unknown text field": ([file_part(name), text_part(b"SURPRISE", b"1")], "SURPRISE"),
        "a field with brackets": ([file_part(name), text_part(b"model[$ne]", b"1")], "model[$ne]"),
        "a field of nothing": ([file_part(name), text_part(b"", b"1")], None),
    }
    for case, (parts, named) in cases.items():
        answer = post_form(service, route, *parts)
        assert answer.status_code == 422, f"{case}: {answer.status_code} {answer.text[:500]}"
        assert_refused(service, answer, 422, "invalid_field", named)
    assert_refused(service, post_form(service, route, file_part(name, b"hello")), 415, "unsupported_image", name)


FILE_NAMES = [b"../../../etc/canary", b"/etc/canary", b"..\\canary", b"$(touch canary)", b"x" * 2000]


@pytest.mark.parametrize("route", BYTES_ROUTES, ids=route_name)
def test_the_name_of_a_file_means_nothing(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    for name in FILE_NAMES[: 1 if route is UPSAMPLER_BYTES else None]:  # where a picture takes a second, one will do
        answer = post_form(service, route, file_part(form_field(route), filename=name))
        assert answer.status_code == 200, f"{name!r}: {answer.text[:500]}"
    assert not Path("/etc/canary").exists()


@pytest.mark.parametrize("route", BYTES_ROUTES, ids=route_name)
def test_broken_forms_are_refused_and_hurt_nobody(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    part = file_part(form_field(route))
    many = [text_part(b"f%d" % number, b"1") for number in range(2000)]
    form = {"Content-Type": "multipart/form-data; boundary=edge"}
    cases = {
        "no end": post_form(service, route, part, end=b""),
        "cut within the picture": post_raw(service, route.path, b"--edge\r\n" + part[:-20], **form),
        "cut within a part's header": post_raw(service, route.path, b"--edge\r\n" + part[:30], **form),
        "another boundary": post_raw(service, route.path, b"--other\r\n" + part + b"\r\n--other--\r\n", **form),
        "no boundary": post_raw(service, route.path, part, **{"Content-Type": "multipart/form-data"}),
        "an empty boundary": post_raw(service, route.path, part, **{"Content-Type": "multipart/form-data; boundary="}),
        "no body": post_raw(service, route.path, b"", **form),
        "noise": post_raw(service, route.path, bytes(range(256)) * 1000, **form),
        "a file's name that is no text": post_form(service, route, file_part(form_field(route), filename=b"\xff\xfe")),
        "a giant header": post_form(service, route, b"X-Junk: " + b"x" * 1_000_000 + b"\r\n" + part),
        "a giant name": post_form(service, route, part, text_part(b"n" * 1_000_000, b"1")),
        "a giant text": post_form(service, route, part, text_part(b"prompt", b"1" * 2_000_000)),
        "2,000 parts": post_form(service, route, part, *many),
        "a form within the form": post_form(
            service, route, part.replace(b"image/png", b"multipart/mixed; boundary=i").replace(PICTURE, b"--i\r\n")
        ),
    }
    for case, answer in cases.items():
        assert 400 <= answer.status_code < 500, f"{case}: {answer.status_code} {answer.text[:500]}"
        assert "Traceback" not in answer.text
        assert answer.json()["error"]["code"] != "internal_error", case
    service.assert_unharmed()


@pytest.mark.parametrize("route", BYTES_ROUTES, ids=route_name)
def test_bytes_of_another_kind_are_refused(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded", "", "image", "x" * 5000):
        answer = post_raw(service, route.path, PICTURE, **{"Content-Type": kind})
        assert_refused(service, answer, 415, "unsupported_media_type")
    for kind in ("image/png", "image/anything", "application/octet-stream"):
        assert_refused(
            service, post_raw(service, route.path, b"", **{"Content-Type": kind}), 422, "invalid_field", "body"
        )


# ---------------------------------------------------------------------------------------------------------------------
# HTTP


ALL_ROUTES = [*JSON_ROUTES, *BYTES_ROUTES]


@pytest.mark.parametrize("route", ALL_ROUTES, ids=route_name)
def test_a_body_over_the_limit_is_413_and_says_the_limit(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    kind = {"Content-Type": "application/json" if route.body is not None else "image/png"}

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 100_000 + 2):
            yield b"x" * 100_000

    whole = b"x" * (MAX_BODY_BYTES + 1)
    for body in (whole, chunks()):
        # Before the last byte is sent, the answer may be there and the connection closed.
        with contextlib.suppress(requests.ConnectionError):
            answer = requests.post(service.local.url + route.path, data=body, headers=kind, timeout=60)
            assert_refused(service, answer, 413, "body_too_large")
            assert "limit" in answer.json()["message"]


@pytest.mark.parametrize("route", JSON_ROUTES, ids=route_name)
def test_other_media_types_and_encodings_are_415(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    body = json.dumps(route.json_body(PICTURE))
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}, {"Content-Encoding": "br"}):
        assert_refused(service, post_raw(service, route.path, body, **headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("route", BYTES_ROUTES, ids=route_name)
def test_packed_bytes_are_415(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    headers = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    assert_refused(service, post_raw(service, route.path, PICTURE, **headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("name", SERVICES)
def test_unknown_routes_and_methods(services: Services, name: str) -> None:
    service = services[name]
    path = next(route.rule for route in JSON_ROUTES if route.service == name)
    assert_refused(service, get(service.local, "/nowhere"), 404, "not_found")
    assert_refused(service, get(service.local, "/..%2f..%2fetc/passwd"), 404, "not_found")
    assert_refused(service, get(service.local, path), 405, "method_not_allowed")
    trace = requests.request("TRACE", service.local.url + path, timeout=30)
    assert_refused(service, trace, 405, "method_not_allowed")


@pytest.mark.parametrize("route", [REMOVE, CUTOUT, REALESRGAN, UPSAMPLER], ids=route_name)
def test_bytes_that_are_no_http_do_not_hurt(services: Services, route: PictureRoute) -> None:
    service = services[route.service]
    host, port = service.local.url.removeprefix("http://").split(":")
    kind = "application/json" if route.body else "image/png"
    start = f"POST {route.rule} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n".encode()
    for attack in (
        b"\0" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        start + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        start + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
        start + b"Content-Length: -5\r\n\r\n",
        start + b"Content-Length: 5, 6\r\n\r\nhello",
        start + b"Content-Length: 99999999\r\n\r\n{",
        start + b"Content-Length: 100\r\n\r\n" + PICTURE[:20],
        start + b"X-Junk: " + b"x" * 100_000 + b"\r\n\r\n",
        start + b"".join(b"X-%d: x\r\n" % number for number in range(5000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as client:
            client.settimeout(2)
            with contextlib.suppress(OSError):  # closed before all was said
                client.sendall(attack)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(1000)
                assert b" 500 " not in answer
                assert b" 200 " not in answer
    service.assert_unharmed()
    assert get(service.local, "/live").status_code == 200


@pytest.mark.parametrize("name", SERVICES)
def test_an_attacker_s_request_id_does_not_reach_the_answer(services: Services, name: str) -> None:
    answer = requests.get(f"{services[name].local.url}/nowhere", headers={"X-Request-ID": "a" * 1000}, timeout=30)
    assert len(answer.headers["X-Request-ID"]) < 100
