"""main-api: pictures from models, and pictures from pictures."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE, BEHIND, NO_MODEL, NO_WEIGHTS, UPSCALER_IS_NOT_HERE
from api_docs.route import Errors, Route

from enlight.servicekit.errors import NotFound

_ERRORS = (*BAD_PICTURE, *NO_WEIGHTS, *BEHIND)

SEED_PICTURES: tuple[Route, ...] = (
    Route(
        "POST /inference",
        """
        curl -sS $API/inference -H 'Content-Type: application/json' \\
          -d '{"prompt": "a sks robot on the beach", "model_id": "curl-robot", "num_image": 2}' > answer.json
        answer '["images"][0]' < answer.json | base64 -d > picture.png
        """,
        """
        body = {"prompt": "a sks robot on the beach", "model_id": "python-robot", "num_image": 2}
        answer = requests.post(f"{API}/inference", json=body).json()
        save("picture.png", answer["images"][0])
        """,
        '{"message": "Inference is done.", "images": ["..."]}',
        errors=(*NO_MODEL, *BEHIND),
    ),
    Route(
        "POST /remove",
        """
        curl -sS $API/remove -H 'Content-Type: application/json' -d @- <<EOF > answer.json
        {"input_image": "$(base64 -w0 picture.png)"}
        EOF
        answer '["output_image"]' < answer.json | base64 -d > on-white.png
        """,
        """
        picture = base64.b64encode(pathlib.Path("picture.png").read_bytes()).decode()
        answer = requests.post(f"{API}/remove", json={"input_image": picture}).json()
        save("on-white.png", answer["output_image"])
        """,
        '{"output_image": "..."}',
        errors=_ERRORS,
    ),
    Route(
        "POST /remove-opacity",
        """
        curl -sS $API/remove-opacity -H 'Content-Type: application/json' -d @- <<EOF > answer.json
        {"input_image": "$(base64 -w0 picture.png)"}
        EOF
        answer '["output_image"]' < answer.json | base64 -d > cut-out.png
        """,
        """
        answer = requests.post(f"{API}/remove-opacity", json={"input_image": picture}).json()
        save("cut-out.png", answer["output_image"])
        """,
        '{"output_image": "..."}',
        more="Colours are those of the picture up to the edge, and a picture's own transparency stays.",
        errors=_ERRORS,
    ),
    Route(
        "POST /upsampler",
        """
        curl -sS $API/upsampler -H 'Content-Type: application/json' -d @- <<EOF > answer.json
        {"image": "$(base64 -w0 picture.png)", "prompt": "a robot on the beach", "resolution": 1024}
        EOF
        answer '["message"]' < answer.json
        """,
        """
        body = {"image": picture, "prompt": "a robot on the beach", "resolution": 1024}
        answer = requests.post(f"{API}/upsampler", json=body).json()
        print(answer["message"])
        """,
        '{"status": "true", "image": "...", "message": "The picture is a PNG of 1024 x 1024 pixels and ..."}',
        more="The picture is first brought to a quarter of the resolution.",
        errors=_ERRORS,
        refused=UPSCALER_IS_NOT_HERE,
    ),
    Route(
        "POST /realesrgan",
        """
        curl -sS $API/realesrgan -H 'Content-Type: application/json' -d @- <<EOF > answer.json
        {"input_string": "$(base64 -w0 picture.png)", "model_name": "realesr-animevideov3"}
        EOF
        answer '["image"]' < answer.json | base64 -d > large.png
        """,
        """
        body = {"input_string": picture, "model_name": "realesr-animevideov3"}
        answer = requests.post(f"{API}/realesrgan", json=body).json()
        save("large.png", answer["image"])
        """,
        '{"status": "true", "image": "...", "message": "1024 x 1024 pixels from realesr-animevideov3."}',
        more="As many passes are made as the size asks for, then down to it. realesrgan itself has this as "
        "`POST /upsampler`.",
        errors=_ERRORS,
    ),
)

PICTURES: tuple[Route, ...] = (
    Route(
        "POST /v1/generations",
        """
        curl -sS $API/v1/generations -H 'Content-Type: application/json' -d @- <<EOF > answer.json
        {"prompt": "a sks robot in the snow", "negative_prompt": "blurred", "model_id": "curl-robot",
         "seed": 7, "num_inference_steps": 20, "guidance_scale": 6, "format": "webp"}
        EOF
        answer '["images"][0]' < answer.json | base64 -d > snow.webp
        half=iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAGklEQVR42mNkYGBg+M/AwMDEAAWjjFEG8QwAyyMBf5gYzUkAAAAASUVORK5CYII=
        curl -sS $API/v1/generations -H 'Content-Type: application/json' -d @- <<EOF > painted.json
        {"prompt": "a sks robot on the beach", "model_id": "curl-robot", "seed": 8,
         "image": "$(answer '["images"][0]' < answer.json)", "mask": "$half"}
        EOF
        answer '["images"][0]' < painted.json | base64 -d > painted.png
        """,
        """
        body = {"prompt": "a sks robot in the snow", "negative_prompt": "blurred", "model_id": "python-robot",
                "seed": 7, "num_inference_steps": 20, "guidance_scale": 6, "format": "webp"}
        answer = requests.post(f"{API}/v1/generations", json=body).json()
        save("snow.webp", answer["images"][0])
        half = ("iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAGklEQVR4"
                "2mNkYGBg+M/AwMDEAAWjjFEG8QwAyyMBf5gYzUkAAAAASUVORK5CYII=")
        body = {"prompt": "a sks robot on the beach", "model_id": "python-robot", "seed": 8,
                "image": answer["images"][0], "mask": half}
        painted = requests.post(f"{API}/v1/generations", json=body).json()
        save("painted.png", painted["images"][0])
        """,
        '{"images": ["..."], "format": "webp", "model_id": "curl-robot", "seed": 7, "num_inference_steps": 20, '
        '"scheduler": "...", "width": 64, "height": 64, "cache_tier": "resident", "run_s": 0.4}',
        more="The second request paints the right half of the first one's picture anew: its mask of 64 × 64 pixels is "
        "white there.",
        errors=(*BAD_PICTURE, *NO_MODEL, *BEHIND),
    ),
    Route(
        "POST /v1/cutout",
        """
        curl -sS "$API/v1/cutout?model=u2netp&background=white&format=webp" \\
          -H 'Content-Type: image/png' --data-binary @picture.png -o on-white.webp
        """,
        """
        file = pathlib.Path("picture.png").read_bytes()
        options = {"model": "u2netp", "background": "white", "format": "webp"}
        answer = requests.post(f"{API}/v1/cutout", files={"image": file}, data=options)
        pathlib.Path("on-white.webp").write_bytes(answer.content)
        """,
        errors=_ERRORS,
    ),
    Route(
        "POST /v1/upscale",
        """
        curl -sS "$API/v1/upscale?prompt=a%20robot&resolution=1024" \\
          -H 'Content-Type: image/png' --data-binary @picture.png -o answer -w '%{http_code} %{content_type}\\n'
        """,
        """
        options = {"prompt": "a robot", "resolution": 1024}
        answer = requests.post(f"{API}/v1/upscale", files={"image": file}, data=options)
        print(answer.status_code, answer.headers["Content-Type"])
        """,
        errors=_ERRORS,
        refused=UPSCALER_IS_NOT_HERE,
    ),
    Route(
        "POST /v1/upscale/realesrgan",
        """
        curl -sS "$API/v1/upscale/realesrgan?model_name=realesr-animevideov3&out_resolution=1024&format=webp" \\
          -H 'Content-Type: image/png' --data-binary @picture.png -o large.webp
        """,
        """
        options = {"model_name": "realesr-animevideov3", "out_resolution": 1024, "format": "webp"}
        answer = requests.post(f"{API}/v1/upscale/realesrgan", files={"image": file}, data=options)
        pathlib.Path("large.webp").write_bytes(answer.content)
        """,
        more="realesrgan itself has this as `POST /v1/upscale`.",
        errors=_ERRORS,
    ),
)

_PICTURE = (
    '{"id": "pic-...", "kind": "generation", "model_id": "curl-robot", "source_id": null, '
    '"parameters": {"prompt": "..."}, "width": 64, "height": 64, "content_type": "image/png", "size_bytes": 9000, '
    '"sha256": "...", "created_at": "..."}'
)
_CUT_OUT = (
    _PICTURE.replace("generation", "cutout")
    .replace("null", '"pic-..."')
    .replace('"prompt": "..."', '"model": "u2netp"')
)
_ENLARGED = _CUT_OUT.replace("cutout", "upscale").replace('"model": "u2netp"', '"out_resolution": 1024')
_NO_PICTURE: Errors = ((NotFound, "no such picture"),)

GALLERY: tuple[Route, ...] = (
    Route(
        "POST /v1/pictures",
        """
        curl -sSN $API/v1/pictures -H 'Content-Type: application/json' \\
          -d '{"prompt": "a sks robot in the snow", "model_id": "curl-robot", "num_images": 3}'
        """,
        """
        body = {"prompt": "a sks robot in the snow", "model_id": "python-robot", "num_images": 3}
        with requests.post(f"{API}/v1/pictures", json=body, stream=True) as events:
            for line in events.iter_lines(decode_unicode=True):
                print(line)

        """,
        more='`picture` has the picture as `GET /v1/pictures/{picture_id}` shows it, `end` is `{"made": 3}`, `error` '
        "has a `code` and a `message` besides. Of a picture to begin from only that there was one is kept.",
        errors=(*BAD_PICTURE, *NO_MODEL, *BEHIND),
    ),
    Route(
        "GET /v1/pictures",
        """
        curl -sS "$API/v1/pictures?model_id=curl-robot&limit=20" > answer.json
        kept=$(answer '["pictures"][0]["id"]' < answer.json)
        """,
        """
        found = requests.get(f"{API}/v1/pictures", params={"model_id": "python-robot", "limit": 20}).json()
        kept = found["pictures"][0]["id"]
        """,
        '{"pictures": [' + _PICTURE + '], "next": null}',
    ),
    Route(
        "GET /v1/pictures/{picture_id}",
        """
        curl -sS $API/v1/pictures/$kept
        """,
        """
        requests.get(f"{API}/v1/pictures/{kept}").json()
        """,
        _PICTURE,
        errors=_NO_PICTURE,
    ),
    Route(
        "GET /v1/pictures/{picture_id}/file",
        """
        curl -sS $API/v1/pictures/$kept/file -o kept.png
        """,
        """
        pathlib.Path("kept.png").write_bytes(requests.get(f"{API}/v1/pictures/{kept}/file").content)
        """,
        errors=_NO_PICTURE,
    ),
    Route(
        "GET /v1/pictures/{picture_id}/thumbnail",
        """
        curl -sS $API/v1/pictures/$kept/thumbnail -o small.webp
        """,
        """
        small = requests.get(f"{API}/v1/pictures/{kept}/thumbnail").content
        """,
        errors=_NO_PICTURE,
    ),
    Route(
        "POST /v1/pictures/{picture_id}/cutout",
        """
        curl -sS $API/v1/pictures/$kept/cutout -H 'Content-Type: application/json' -d '{"model": "u2netp"}'
        """,
        """
        requests.post(f"{API}/v1/pictures/{kept}/cutout", json={"model": "u2netp"}).json()
        """,
        _CUT_OUT,
        errors=(*_NO_PICTURE, *NO_WEIGHTS, *BEHIND),
    ),
    Route(
        "POST /v1/pictures/{picture_id}/upscale",
        """
        curl -sS $API/v1/pictures/$kept/upscale -H 'Content-Type: application/json' \\
          -d '{"out_resolution": 1024, "model_name": "realesr-animevideov3"}'
        """,
        """
        body = {"out_resolution": 1024, "model_name": "realesr-animevideov3"}
        requests.post(f"{API}/v1/pictures/{kept}/upscale", json=body).json()
        """,
        _ENLARGED,
        errors=(*_NO_PICTURE, *NO_WEIGHTS, *BEHIND),
    ),
    Route(
        "DELETE /v1/pictures/{picture_id}",
        """
        curl -sS -X DELETE $API/v1/pictures/$kept
        """,
        """
        requests.delete(f"{API}/v1/pictures/{kept}")
        """,
        errors=_NO_PICTURE,
    ),
)
