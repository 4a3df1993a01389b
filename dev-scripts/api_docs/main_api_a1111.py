"""main-api: the routes of A1111's web UI, and of rembg's server."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE, BEHIND, NO_MODEL, NO_WEIGHTS
from api_docs.route import Errors, Route

from enlight.servicekit.errors import NotFound

_NO_SUCH_MODEL: Errors = ((NotFound, "no such model"),)
_BODY = "-H 'Content-Type: application/json'"


def _list(name: str, answer: str = "") -> Route:
    """A route that takes nothing and changes nothing."""
    return Route(
        f"GET /sdapi/v1/{name}",
        f"""
        curl -sS $API/sdapi/v1/{name}
        """,
        f"""
        requests.get(f"{{API}}/sdapi/v1/{name}").json()
        """,
        answer,
    )


def _order(name: str) -> Route:
    """A route that is only to be asked."""
    return Route(
        f"POST /sdapi/v1/{name}",
        f"""
        curl -sS -X POST $API/sdapi/v1/{name}
        """,
        f"""
        requests.post(f"{{API}}/sdapi/v1/{name}").json()
        """,
    )


A1111: tuple[Route, ...] = (
    Route(
        "POST /sdapi/v1/txt2img",
        f"""
        curl -sS $API/sdapi/v1/txt2img {_BODY} \\
          -d '{{"prompt": "a sks robot on the beach <lora:curl-robot:1>", "seed": 7, "steps": 20}}' > answer.json
        answer '["images"][0]' < answer.json | base64 -d > beach.png
        """,
        """
        wanted = {"prompt": "a sks robot on the beach <lora:python-robot:1>", "seed": 7, "steps": 20}
        made = requests.post(f"{API}/sdapi/v1/txt2img", json=wanted).json()
        save("beach.png", made["images"][0])
        """,
        '{"images": ["..."], "parameters": {"prompt": "a sks robot on the beach <lora:curl-robot:1>", "steps": 20}, '
        '"info": "..."}',
        more="Fields that are not in this table are ignored, as A1111 ignores unknown ones; those that would change a "
        "picture and are not to be had here are refused by their names. Errors have A1111's body: `error`, `detail`, "
        "`body` and `errors`, or FastAPI's list of fields as `detail`.",
        errors=(*NO_MODEL, *BEHIND),
    ),
    Route(
        "POST /sdapi/v1/img2img",
        f"""
        curl -sS $API/sdapi/v1/img2img {_BODY} -d @- <<EOF > answer.json
        {{"prompt": "a sks robot in the snow <lora:curl-robot:1>", "denoising_strength": 0.6, "seed": 8,
         "init_images": ["data:image/png;base64,$(base64 -w0 beach.png)"]}}
        EOF
        answer '["images"][0]' < answer.json | base64 -d > painted.png
        """,
        """
        wanted = {"prompt": "a sks robot in the snow <lora:python-robot:1>", "denoising_strength": 0.6, "seed": 8,
                  "init_images": made["images"]}
        made = requests.post(f"{API}/sdapi/v1/img2img", json=wanted).json()
        save("painted.png", made["images"][0])
        """,
        '{"images": ["..."], "parameters": {"denoising_strength": 0.6, "init_images": null}, "info": "..."}',
        errors=(*BAD_PICTURE, *NO_MODEL, *BEHIND),
    ),
    Route(
        "POST /sdapi/v1/extra-single-image",
        f"""
        curl -sS $API/sdapi/v1/extra-single-image {_BODY} -d @- <<EOF > answer.json
        {{"image": "$(base64 -w0 beach.png)", "upscaler_1": "R-ESRGAN AnimeVideo", "upscaling_resize": 4}}
        EOF
        answer '["image"]' < answer.json | base64 -d > enlarged.png
        """,
        """
        enlarging = {"image": made["images"][0], "upscaler_1": "R-ESRGAN AnimeVideo", "upscaling_resize": 4}
        enlarged = requests.post(f"{API}/sdapi/v1/extra-single-image", json=enlarging).json()
        save("enlarged.png", enlarged["image"])
        """,
        '{"html_info": "<p>Postprocess upscaler: R-ESRGAN AnimeVideo</p>", "image": "..."}',
        errors=(*BAD_PICTURE, *NO_WEIGHTS, *BEHIND),
    ),
    Route(
        "POST /sdapi/v1/extra-batch-images",
        f"""
        curl -sS $API/sdapi/v1/extra-batch-images {_BODY} -d @- <<EOF > answer.json
        {{"imageList": [{{"data": "$(base64 -w0 beach.png)", "name": "beach"}}], "upscaler_1": "R-ESRGAN AnimeVideo"}}
        EOF
        """,
        """
        enlarging = {"imageList": [{"data": made["images"][0], "name": "painted"}], "upscaler_1": "R-ESRGAN AnimeVideo"}
        enlarged = requests.post(f"{API}/sdapi/v1/extra-batch-images", json=enlarging).json()
        """,
        '{"html_info": "<p>Postprocess upscaler: R-ESRGAN AnimeVideo</p>", "images": ["..."]}',
        errors=(*BAD_PICTURE, *NO_WEIGHTS, *BEHIND),
    ),
    _list("sd-models"),
    _list("loras"),
    Route(
        "POST /sdapi/v1/options",
        f"""
        curl -sS $API/sdapi/v1/options {_BODY} -d '{{"sd_model_checkpoint": "curl-robot"}}'
        """,
        """
        chosen = {"sd_model_checkpoint": "python-robot"}
        requests.post(f"{API}/sdapi/v1/options", json=chosen).json()
        """,
        errors=_NO_SUCH_MODEL,
    ),
    _list("options", '{"sd_model_checkpoint": "curl-robot", "sd_checkpoint_hash": null, "samples_format": "png"}'),
    Route(
        "GET /sdapi/v1/progress",
        """
        curl -sS $API/sdapi/v1/progress
        """,
        """
        requests.get(f"{API}/sdapi/v1/progress", params={"skip_current_image": "true"}).json()
        """,
        '{"progress": 0.0, "eta_relative": 0.0, "state": {"job": "", "job_count": 0, "job_no": 0}, '
        '"current_image": null}',
    ),
    _order("interrupt"),
    _order("skip"),
    _order("refresh-checkpoints"),
    _list("samplers"),
    _list("schedulers"),
    _list("upscalers"),
    _list("realesrgan-models"),
    _list("face-restorers"),
    _list("latent-upscale-modes"),
    _list("sd-vae"),
    _list("hypernetworks"),
    _list("prompt-styles"),
    _list("embeddings"),
    _list("scripts"),
    _list("script-info"),
    _list("cmd-flags"),
    _list("memory"),
)

REMBG = Route(
    "POST /api/remove",
    """
    curl -sS -F file=@picture.png -F model=u2netp $API/api/remove -o without-background.png
    """,
    """
    with open("picture.png", "rb") as photo:
        removed = requests.post(f"{API}/api/remove", files={"file": photo}, data={"model": "u2netp"})

    """,
    more="As bgrem has it, which refuses options that rembg's server would ignore. Errors have FastAPI's body. A GET "
    "with `url` is a 405: nothing is fetched.",
    errors=(*BAD_PICTURE, *NO_WEIGHTS, *BEHIND),
)
