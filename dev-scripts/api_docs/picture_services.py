"""The routes of bgrem, upsampler and realesrgan."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE, BUSY, NO_WEIGHTS, UPSCALER_IS_NOT_HERE
from api_docs.route import Route, Section
from api_docs.status_route import network, status_answer, status_route

from enlight.servicekit.errors import InvalidField

_ERRORS = (*BAD_PICTURE, *NO_WEIGHTS, *BUSY)

BGREM = Section(
    "bgrem, port 4000",
    "bgrem",
    "Cuts out backgrounds; without keys.",
    (
        Route(
            "POST /remove",
            """
            curl -sS http://127.0.0.1:4000/remove -H 'Content-Type: application/json' -d @- <<EOF > answer.json
            {"input_image": "$(base64 -w0 picture.png)", "model": "u2netp"}
            EOF
            answer '["output_image"]' < answer.json | base64 -d > on-white.png
            """,
            """
            body = {"input_image": picture, "model": "u2netp"}
            answer = requests.post("http://127.0.0.1:4000/remove", json=body).json()
            save("on-white.png", answer["output_image"])
            """,
            errors=_ERRORS,
        ),
        Route(
            "POST /remove-opacity",
            """
            curl -sS http://127.0.0.1:4000/remove-opacity -H 'Content-Type: application/json' -d @- <<EOF > answer.json
            {"input_image": "$(base64 -w0 picture.png)", "model": "u2netp"}
            EOF
            answer '["output_image"]' < answer.json | base64 -d > cut-out.png
            """,
            """
            answer = requests.post("http://127.0.0.1:4000/remove-opacity", json=body).json()
            save("cut-out.png", answer["output_image"])
            """,
            errors=_ERRORS,
        ),
        Route(
            "POST /v1/cutout",
            """
            curl -sS http://127.0.0.1:4000/v1/cutout -F image=@picture.png -F only_mask=true -F model=u2netp > mask.png
            """,
            """
            headers = {"Content-Type": "image/png"}
            options = {"only_mask": "true", "model": "u2netp"}
            answer = requests.post("http://127.0.0.1:4000/v1/cutout", params=options, data=file, headers=headers)
            """,
            errors=_ERRORS,
        ),
        Route(
            "POST /api/remove",
            """
            curl -sS http://127.0.0.1:4000/api/remove -F file=@picture.png -F model=u2netp -F bgc=0,0,0,255 > black.png
            """,
            """
            options = {"model": "u2netp", "bgc": "0,0,0,255"}
            answer = requests.post("http://127.0.0.1:4000/api/remove", files={"file": file}, data=options)
            """,
            errors=_ERRORS,
        ),
        Route(
            "GET /api/remove",
            """
            curl -sS "http://127.0.0.1:4000/api/remove?url=http://127.0.0.1/robot.png"
            """,
            """
            requests.get("http://127.0.0.1:4000/api/remove", params={"url": "http://127.0.0.1/robot.png"}).json()
            """,
            errors=((InvalidField, "always"),),
            refused=(InvalidField, "always"),
        ),
        Route(
            "GET /v1/models",
            """
            curl -sS http://127.0.0.1:4000/v1/models
            """,
            """
            requests.get("http://127.0.0.1:4000/v1/models").json()
            """,
            '{"models": [{"name": "u2net", "weights_here": true, "weights_file": "u2net.onnx"}]}',
        ),
        status_route(4000, status_answer("bgrem", network("u2netp"))),
    ),
)

UPSAMPLER = Section(
    "upsampler, port 4455",
    "upsampler",
    "Enlarges with the Stable Diffusion x4 upscaler, whose weights must be fetched: "
    "[upsampler/README.md](../upsampler/README.md). Without keys.",
    (
        Route(
            "POST /upsampler",
            """
            curl -sS http://127.0.0.1:4455/upsampler -H 'Content-Type: application/json' -d @- <<EOF > answer.json
            {"image": "$(base64 -w0 picture.png)", "prompt": "a robot on the beach", "resolution": 1024}
            EOF
            answer '["message"]' < answer.json
            """,
            """
            body = {"image": picture, "prompt": "a robot on the beach", "resolution": 1024}
            answer = requests.post("http://127.0.0.1:4455/upsampler", json=body).json()
            print(answer["message"])
            """,
            errors=_ERRORS,
            refused=UPSCALER_IS_NOT_HERE,
        ),
        Route(
            "POST /v1/upscale",
            """
            curl -sS http://127.0.0.1:4455/v1/upscale -F image=@picture.png -F 'prompt=a robot' -F resolution=1024 \\
              -o answer -w '%{http_code} %{content_type}\\n'
            """,
            """
            options = {"prompt": "a robot", "resolution": 1024}
            answer = requests.post("http://127.0.0.1:4455/v1/upscale", params=options, data=file, headers=headers)
            print(answer.status_code, answer.headers["Content-Type"])
            """,
            errors=_ERRORS,
            refused=UPSCALER_IS_NOT_HERE,
        ),
        Route(
            "GET /v1/models",
            """
            curl -sS http://127.0.0.1:4455/v1/models
            """,
            """
            requests.get("http://127.0.0.1:4455/v1/models").json()
            """,
            '{"models": [{"id": "stabilityai/stable-diffusion-x4-upscaler", "weights_here": false}]}',
        ),
        status_route(4455, status_answer("upsampler", network("stabilityai/stable-diffusion-x4-upscaler"))),
    ),
)

REALESRGAN = Section(
    "realesrgan, port 11111",
    "realesrgan",
    "Enlarges with Real-ESRGAN; without keys.",
    (
        Route(
            "POST /upsampler",
            """
            curl -sS http://127.0.0.1:11111/upsampler -H 'Content-Type: application/json' -d @- <<EOF > answer.json
            {"input_string": "$(base64 -w0 picture.png)", "model_name": "realesr-animevideov3"}
            EOF
            answer '["image"]' < answer.json | base64 -d > large.png
            """,
            """
            body = {"input_string": picture, "model_name": "realesr-animevideov3"}
            answer = requests.post("http://127.0.0.1:11111/upsampler", json=body).json()
            save("large.png", answer["image"])
            """,
            errors=_ERRORS,
        ),
        Route(
            "POST /v1/upscale",
            """
            curl -sS http://127.0.0.1:11111/v1/upscale -F image=@picture.png -F model_name=realesr-animevideov3 \\
              -F format=jpeg > large.jpg
            """,
            """
            options = {"model_name": "realesr-animevideov3", "format": "jpeg"}
            answer = requests.post("http://127.0.0.1:11111/v1/upscale", params=options, data=file, headers=headers)
            """,
            errors=_ERRORS,
        ),
        Route(
            "GET /v1/models",
            """
            curl -sS http://127.0.0.1:11111/v1/models
            """,
            """
            requests.get("http://127.0.0.1:11111/v1/models").json()
            """,
            '{"default": "RealESRGAN_x4plus", "models": [{"name": "RealESRGAN_x4plus", "weights_here": true}]}',
        ),
        status_route(11111, status_answer("realesrgan", network("realesr-animevideov3"))),
    ),
)
