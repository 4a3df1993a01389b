"""``/run/keys``: who may ask, and how much each tenant uses of what it may."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint, Response, render_template, request

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.run.answers import dialog, done, shown_or_away
from enlight.dashboard.pages.run.tenant_usage import keys_and_usage
from enlight.dashboard.security.sessions import Session, SessionCookies, current_session


def add_keys(pages: Blueprint, cookies: SessionCookies) -> None:
    """The list and what can be done about a key. Secrets are in answers to POST alone, which no browser keeps."""

    @pages.get("/keys")
    def keys() -> str:
        return render_template("run/keys.html", **_chosen(), **shown_or_away(lambda: keys_and_usage(**_chosen())))

    @pages.get("/now/keys")
    def keys_now() -> str:
        return render_template("run/keys_now.html", **_chosen(), away=None, **keys_and_usage(**_chosen()))

    @pages.get("/keys/new")
    def ask_for_key() -> str:
        return render_template("run/key_new.html")

    @pages.post("/keys")
    def make_key() -> Response:
        wanted = {name: request.form.get(name, "").strip() for name in ("tenant", "scope", "name")}
        return dialog("run/key_made.html", made=current_api().post("/v1/keys", wanted), own=False)

    @pages.get("/keys/<key_id>/rotate")
    def ask_to_rotate(key_id: str) -> str:
        return render_template("run/key_rotate.html", key_id=key_id, own=_is_own(key_id))

    @pages.post("/keys/<key_id>/rotate")
    def rotate_key(key_id: str) -> Response:
        own = _is_own(key_id)
        made = current_api().post(f"{_path(key_id)}/rotate")
        answer = dialog("run/key_made.html", made=made, own=own)
        if own:  # whoever renews the key that they came with stays signed in
            now = current_session()
            cookies.write(answer, Session(made["key"], now.tenant, now.scope, now.csrf_token))
        return answer

    @pages.get("/keys/<key_id>/revoke")
    def ask_to_revoke(key_id: str) -> str:
        return render_template("run/key_revoke.html", key_id=key_id, own=_is_own(key_id))

    @pages.post("/keys/<key_id>/revoke")
    def revoke_key(key_id: str) -> Response:
        revoked = current_api().delete(_path(key_id))
        return done(f"The key {revoked['id']} of {revoked['tenant']} is revoked.")


def _path(key_id: str) -> str:
    return f"/v1/keys/{quote(key_id, safe='')}"


def _is_own(key_id: str) -> bool:
    return bool(current_api().get("/v1/me")["key_id"] == key_id)


def _chosen() -> dict[str, str]:
    return {"tenant": request.args.get("tenant", "").strip(), "revoked": request.args.get("revoked", "")}
