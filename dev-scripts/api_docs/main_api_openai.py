"""main-api: OpenAI's images. docs/clients.md has the same with its SDK."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE, BEHIND, NO_MODEL
from api_docs.route import Route

from enlight.servicekit.errors import Forbidden, NotFound

OPENAI_IMAGES: tuple[Route, ...] = (
    Route(
        "POST /v1/images/generations",
        """
        curl -sS $API/v1/images/generations -H 'Content-Type: application/json' -d @- <<EOF > answer.json
        {"model": "curl-robot", "prompt": "a sks robot in the snow", "n": 2, "output_format": "webp", "seed": 7}
        EOF
        answer '["data"][0]["b64_json"]' < answer.json | base64 -d > openai.webp
        """,
        """
        body = {"model": "python-robot", "prompt": "a sks robot in the snow", "n": 2,
                "output_format": "webp", "seed": 7}
        answer = requests.post(f"{API}/v1/images/generations", json=body).json()
        save("openai.webp", answer["data"][0]["b64_json"])
        """,
        '{"created": 1795000000, "data": [{"b64_json": "...", "seed": 7}], "background": "opaque", '
        '"output_format": "webp", "size": "64x64", "model": "curl-robot", "model_version": "..."}',
        more="To OpenAI's clients the gateway's URL with `/v1` is `base_url`, and a key of the gateway `api_key`. "
        "Errors of `/v1/images` have OpenAI's body, `error` with `message`, `type`, `param` and `code`, and are "
        "400 where other routes answer 422; `X-Should-Retry: false` keeps its clients from trying again in vain.",
        errors=(*NO_MODEL, *BEHIND),
    ),
    Route(
        "POST /v1/images/edits",
        """
        curl -sS $API/v1/images/edits -F model=cutout -F image=@picture.png > answer.json
        answer '["data"][0]["b64_json"]' < answer.json | base64 -d > openai-cut-out.png
        curl -sS $API/v1/images/edits -F model=curl-robot -F prompt='a sks robot on the beach' -F strength=0.6 \\
          -F seed=7 -F image=@picture.png > answer.json
        answer '["data"][0]["b64_json"]' < answer.json | base64 -d > openai-edited.png
        """,
        """
        to_edit = {"image": pathlib.Path("picture.png").read_bytes()}
        fields = {"model": "cutout"}
        answer = requests.post(f"{API}/v1/images/edits", data=fields, files=to_edit).json()
        save("openai-cut-out.png", answer["data"][0]["b64_json"])
        fields = {"model": "python-robot", "prompt": "a sks robot on the beach", "strength": 0.6, "seed": 7}
        answer = requests.post(f"{API}/v1/images/edits", data=fields, files=to_edit).json()
        save("openai-edited.png", answer["data"][0]["b64_json"])
        """,
        '{"created": 1795000000, "data": [{"b64_json": "...", "seed": 7}], "background": "opaque", '
        '"output_format": "png", "size": "64x64", "model": "curl-robot", "model_version": "..."}',
        more="`mask` is a picture of the same size whose fully transparent parts are painted anew; the rest stays as "
        "it is, to the pixel. To OpenAI several pictures are references for one; here each gets edits, or a cut- "
        "out, of its own, and a mask is taken with one picture only. `cutout` is bgrem's `u2net`, and takes "
        "`background` (`opaque`: on white) and `output_format` besides the pictures.",
        errors=(*NO_MODEL, *BAD_PICTURE, *BEHIND),
    ),
    Route(
        "POST /v1/images/variations",
        """
        curl -sS $API/v1/images/variations -F image=@picture.png
        """,
        """
        requests.post(f"{API}/v1/images/variations", files=to_edit).json()
        """,
        errors=((NotFound, "always"),),
        refused=(NotFound, "always"),
    ),
    Route(
        "GET /v1/images/files/{picture_id}",
        """
        curl -sS $API/v1/images/generations -H 'Content-Type: application/json' \\
          -d '{"model": "curl-robot", "prompt": "a sks robot", "response_format": "url"}' > answer.json
        curl -sS "$(answer '["data"][0]["url"]' < answer.json)" > linked.png
        """,
        """
        body = {"model": "python-robot", "prompt": "a sks robot", "response_format": "url"}
        answer = requests.post(f"{API}/v1/images/generations", json=body).json()
        linked = requests.get(answer["data"][0]["url"]).content
        """,
        more="The picture is kept, and `GET /v1/pictures` has it when the link has expired. Behind a proxy "
        "`MAIN_API_PUBLIC_URL` is what links begin with.",
        errors=((NotFound, "no such picture, or the link was changed"), (Forbidden, "the link has expired")),
    ),
)
