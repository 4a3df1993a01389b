"""The head of docs/api.md: what holds for every route, and what the examples stand on."""

from __future__ import annotations

WEBHOOK_PORT = 8500
"""Of the receiver that the example of webhooks starts."""
NOBODYS_PORT = 8501
"""Where a webhook goes that nobody receives."""

INTRODUCTION = """# API

Bodies are JSON objects. Types are strict: a number is a JSON number, never a string or a boolean. An unknown field is
an error. Pictures travel as base64 (no `data:` prefix): PNG, JPEG, WebP or HEIC; EXIF turns are applied, of an
animation the first frame is taken; dreambooth-api lays transparency on white, the other services keep it. Fields of a
query or a form are text and have the same ranges; one that is given twice is refused. Every answer has the header
`X-Request-ID`, the request's own one or a new one; the services' logs hold it. This page is made from the code by `make
docs`, and a test runs its examples. A running service has the same at `/docs` and `/openapi.json`.

## Before the examples

The examples go on from each other, from the top of the page to its end: those for the shell in one `bash`, those for
Python in one `.venv/bin/python`. Start the suite, and both in `demo-output/`, where they leave their pictures:

    MAIN_API_WEBHOOK_PRIVATE_ADDRESSES=true make up     # the setting is for the example of webhooks alone
    mkdir -p demo-output && cd demo-output

```bash
API=http://127.0.0.1:8040
photos=[$(for photo in ../demo/photos/*.png; do echo "\\"$(base64 -w0 "$photo")\\""; done | paste -sd,)]
answer() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }   # reads a field of an answer
```
```python
import base64, json, pathlib, requests
API = "http://127.0.0.1:8040"
photos = [base64.b64encode(path.read_bytes()).decode() for path in sorted(pathlib.Path("../demo/photos").glob("*.png"))]
def save(name, picture):
    pathlib.Path(name).write_bytes(base64.b64decode(picture))

```

**Keys.** main-api asks for a key on every route but `/`, `/live`, `/ready`, `/metrics`, `/docs` and `/openapi.json`,
unless it runs with `MAIN_API_KEYS=off`, as `make up` has it: the other examples send none. A key goes into the header
`Authorization` (or `X-API-Key`, or is the password of any user of HTTP Basic) and belongs to a tenant; what belongs to
another tenant is a 404. The first key comes from the command line: [main-api/README.md](../main-api/README.md).

```bash
KEY=enl_...
curl -sS $API/v1/models -H "Authorization: Bearer $KEY"
```
```python
key = "enl_..."
requests.get(f"{API}/v1/models", headers={"Authorization": f"Bearer {key}"}).json()
```
"""
