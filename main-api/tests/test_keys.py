"""Keys: their text, their records, the routes, the command; who may change whose."""

from __future__ import annotations

import io
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from embedded_servers import mongo_server
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from waiting import wait_until
from werkzeug.datastructures import Headers

from enlight.main_api.app import create_app
from enlight.main_api.keys import command as keys_command
from enlight.main_api.keys.authentication import Authenticator
from enlight.main_api.keys.key_format import is_secret, new_key, parse_key, secret_digest
from enlight.main_api.keys.key_store import KeyRecord
from enlight.main_api.settings import Settings
from enlight.servicekit.errors import InvalidField, Unauthorized


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("keys")) as servers:
        yield servers


@pytest.fixture(scope="module")
def settings(around: Surroundings) -> Settings:
    return around.settings()


@pytest.fixture(scope="module")
def admin(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "house", "admin"))


def made(admin: FlaskClient, tenant: str, scope: str = "user") -> dict[str, Any]:
    answer = admin.post("/v1/keys", json={"tenant": tenant, "scope": scope, "name": "test"})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json or {}
    return view


# The text


def test_a_key_is_told_once_and_kept_as_a_digest(settings: Settings) -> None:
    with opened(settings) as stores:
        record, key = stores.keys.create("anna", "user", "laptop")
        document = stores.database["keys"].find_one({"_id": record.id})
    assert re.fullmatch(r"enl_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", key.text)
    assert document is not None
    assert key.secret not in str(document)
    assert document["secret_sha256"] == secret_digest(key.secret)
    assert key.secret not in repr(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "enl_",
        "enl_0123456789abcdef_" + "a" * 42,
        "enl_0123456789abcdef_" + "a" * 44,
        "enl_0123456789ABCDEF_" + "a" * 43,
        "enl_0123456789abcdef_" + "a" * 42 + "\n",
        "enl_0123456789abcdef_" + "a" * 43 + "\n",
        "xenl_0123456789abcdef_" + "a" * 43,
    ],
)
def test_what_cannot_be_a_key_is_none(text: str) -> None:
    assert parse_key(text) is None


def test_only_the_secret_itself_is_right() -> None:
    key = new_key()
    assert is_secret(key.secret, secret_digest(key.secret))
    assert not is_secret(key.secret[:-1] + ("a" if key.secret[-1] != "a" else "b"), secret_digest(key.secret))


# Authentication


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "{key}"},
        {"Authorization": "Bearer {key}"},
        {"Authorization": "bearer {key}"},
        {"Authorization": "Bearer {key}", "X-API-Key": "nonsense"},
        {"Authorization": "Basic YWJj", "X-API-Key": "{key}"},
    ],
)
def test_a_key_is_taken_in_either_header(app: OpenAPI, settings: Settings, headers: dict[str, str]) -> None:
    key = make_key(settings, "anna")
    given = {name: value.format(key=key) for name, value in headers.items()}
    assert app.test_client().get("/v1/keys", headers=given).status_code == 200


def basic(user_and_password: str) -> str:
    return "Basic " + b64encode(user_and_password.encode()).decode()


@pytest.mark.parametrize("user", ["", "api", "somebody@example.com", "Ärzte"])
def test_a_key_is_taken_as_the_password_of_any_user(app: OpenAPI, settings: Settings, user: str) -> None:
    key = make_key(settings, "anna")
    for header in (basic(f"{user}:{key}"), basic(f"{user}:{key}").replace("Basic", "BASIC")):
        assert app.test_client().get("/v1/keys", headers={"Authorization": header}).status_code == 200
    # A server in front that has users of its own: the header that is only ours is the one that counts
    headers = {"Authorization": basic("nginx:its own"), "X-API-Key": key}
    assert app.test_client().get("/v1/keys", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("of_the_page", "status"),
    [
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://elsewhere.example"}, 401),
        ({"Origin": "http://localhost:81"}, 401),
        ({"Origin": "null"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 401),
    ],
)
def test_a_browser_s_remembered_password_does_not_serve_another_server_s_page(
    app: OpenAPI, settings: Settings, of_the_page: dict[str, str], status: int
) -> None:
    key = make_key(settings, "anna")
    remembered = {"Authorization": basic(f"anna:{key}"), **of_the_page}
    assert app.test_client().get("/v1/keys", headers=remembered).status_code == status
    by_a_program = {"Authorization": f"Bearer {key}", **of_the_page}
    assert app.test_client().get("/v1/keys", headers=by_a_program).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic ",
        "Basic {key}",
        "Basic =",
        "Basic @@@@",
        "Basic " + b64encode(b"\xff\xfe:\xff").decode(),
        basic("{key}"),
        basic("user"),
        basic("user:"),
        basic("{key}:"),
        basic("user:{key}:"),
        basic("user:{key}\n"),
        basic("user: {key}"),
        basic("user:nonsense"),
        basic("u" * 5000 + ":{key}"),
        "Digest " + basic("user:{key}")[6:],
    ],
)
def test_what_is_no_user_with_a_key_is_refused_as_no_key_is(app: OpenAPI, settings: Settings, header: str) -> None:
    key = make_key(settings, "anna")
    scheme, _, credentials = header.partition(" ")
    try:
        credentials = b64encode(b64decode(credentials, validate=True).replace(b"{key}", key.encode())).decode()
    except ValueError:
        credentials = credentials.replace("{key}", key)
    answer = app.test_client().get("/v1/keys", headers={"Authorization": f"{scheme} {credentials}"})
    told = assert_error(answer, 401, "unauthorized")
    assert told["message"] == assert_error(app.test_client().get("/v1/keys"), 401, "unauthorized")["message"]


def test_credentials_with_characters_that_base64_has_not_are_none(app: OpenAPI, settings: Settings) -> None:
    right = basic(f"user:{make_key(settings, 'anna')}")
    for header, status in ((right, 200), (right[:20] + "!" + right[20:], 401), (right[:20] + "\t" + right[20:], 401)):
        assert app.test_client().get("/v1/keys", headers={"Authorization": header}).status_code == status


def test_a_refusal_names_both_ways_to_send_a_key(app: OpenAPI) -> None:
    challenges = app.test_client().get("/v1/keys").headers["WWW-Authenticate"]
    assert re.fullmatch(r'Bearer realm="enlight", Basic realm="enlight", charset="UTF-8"', challenges)


def test_a_password_is_compared_as_every_secret_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the one comparison that takes as long for a wrong secret as for the right one
    compared: list[str] = []

    def noting(secret: str, digest: str) -> bool:
        compared.append(secret)
        return is_secret(secret, digest)

    monkeypatch.setattr("enlight.main_api.keys.authentication.is_secret", noting)
    right, wrong = new_key(), new_key()
    authenticator = Authenticator(lambda key_id: record_of(key_id, right.secret), remember_s=60)
    # When a right and a wrong password come
    caller = authenticator.caller(Headers({"Authorization": basic(f"user:{right.text}")}))
    with pytest.raises(Unauthorized):
        authenticator.caller(Headers({"Authorization": basic(f"user:{wrong.text}")}))
    # Then both went through it
    assert caller.tenant == "anna"
    assert compared == [right.secret, wrong.secret]


def test_a_wrong_secret_an_unknown_id_and_a_revoked_key_are_the_same_refusal(
    app: OpenAPI, settings: Settings, admin: FlaskClient
) -> None:
    right = make_key(settings, "anna")
    wrong = right[:-43] + new_key().secret
    revoked = made(admin, "anna")
    assert admin.delete(f"/v1/keys/{revoked['id']}").status_code == 200
    bodies = []
    for key in (wrong, new_key().text, revoked["key"], "nonsense", ""):
        body = assert_error(client_of(app, key).get("/v1/keys"), 401, "unauthorized")
        bodies.append((body["message"], body["error"]["details"]))
    assert len({str(body) for body in bodies}) == 1


def test_a_body_is_not_read_before_the_key_is_known(around: Surroundings, app: OpenAPI) -> None:
    class Unread(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise AssertionError("the body was read")

    for path in ("/remove", "/v1/trainings", "/train", "/v1/generations"):
        answer = app.test_client().post(
            path, environ_overrides={"wsgi.input": Unread(), "CONTENT_LENGTH": "1000"}, content_type="application/json"
        )
        assert_error(answer, 401, "unauthorized")
    assert around.behind["bgrem"].seen == []


def record_of(key_id: str, secret: str) -> KeyRecord:
    return KeyRecord(key_id, "anna", "user", "", secret_digest(secret), datetime.now(UTC), None)


def bearer(text: str) -> Headers:
    return Headers({"Authorization": f"Bearer {text}"})


def test_a_record_is_believed_for_a_while_and_forgotten_at_a_word() -> None:
    # Given a store that counts how often it is asked
    key = new_key()
    asked: list[str] = []

    def find(key_id: str) -> KeyRecord:
        asked.append(key_id)
        return record_of(key_id, key.secret)

    authenticator = Authenticator(find, remember_s=60)
    # When the key is used many times
    for _ in range(5):
        assert authenticator.caller(bearer(key.text)).tenant == "anna"
    # Then the store was asked once, and again after `forget`
    assert len(asked) == 1
    authenticator.forget(key.id)
    authenticator.caller(bearer(key.text))
    assert len(asked) == 2


def test_what_is_believed_has_an_end() -> None:
    key = new_key()
    asked: list[str] = []

    def find(key_id: str) -> KeyRecord:
        asked.append(key_id)
        return record_of(key_id, key.secret)

    authenticator = Authenticator(find, remember_s=0)
    authenticator.caller(bearer(key.text))
    authenticator.caller(bearer(key.text))
    assert len(asked) == 2


def test_a_record_read_before_a_change_is_not_believed_after_it() -> None:
    # Given a lookup during which the key is changed here
    key = new_key()
    asked: list[str] = []

    def find(key_id: str) -> KeyRecord:
        asked.append(key_id)
        if len(asked) == 1:
            authenticator.forget(key_id)
        return record_of(key_id, key.secret)

    authenticator = Authenticator(find, remember_s=60)
    authenticator.caller(bearer(key.text))
    # When the key comes again
    authenticator.caller(bearer(key.text))
    # Then the first record was not kept
    assert len(asked) == 2


def test_unknown_ids_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enlight.main_api.keys.authentication.MAX_REMEMBERED_KEYS", 3)
    asked: list[str] = []
    authenticator = Authenticator(lambda key_id: asked.append(key_id), remember_s=60)
    first = new_key()
    for key in (first, new_key(), new_key(), new_key(), first):
        with pytest.raises(Unauthorized):
            authenticator.caller(bearer(key.text))
    assert asked[-1] == first.id  # pushed out by the others, so asked for again
    assert len(asked) == 5


# The routes


def test_only_an_admin_makes_keys(app: OpenAPI, admin: FlaskClient) -> None:
    user = client_of(app, made(admin, "anna")["key"])
    assert_error(user.post("/v1/keys", json={"tenant": "anna"}), 403, "forbidden")
    assert_error(admin.post("/v1/keys", json={"tenant": "Anna"}), 422, "invalid_field", "tenant")
    assert_error(admin.post("/v1/keys", json={"tenant": "anna\n"}), 422, "invalid_field", "tenant")
    assert_error(admin.post("/v1/keys", json={"tenant": "anna", "scope": "root"}), 422, "invalid_field", "scope")


def test_a_tenant_sees_its_own_keys_and_no_secrets(app: OpenAPI, admin: FlaskClient) -> None:
    mine, other = made(admin, "berta"), made(admin, "carla")
    user = client_of(app, mine["key"])
    for answer in (user.get("/v1/keys"), user.get("/v1/keys?tenant=carla")):
        assert answer.json is not None
        assert {key["tenant"] for key in answer.json["keys"]} == {"berta"}
        assert "secret" not in answer.text
        assert "key" not in answer.json["keys"][0]
    listed = admin.get("/v1/keys").json
    assert listed is not None
    assert {mine["id"], other["id"]} <= {key["id"] for key in listed["keys"]}


def test_a_rotated_key_has_a_new_secret_at_once(app: OpenAPI, admin: FlaskClient) -> None:
    old = made(admin, "dora")
    assert client_of(app, old["key"]).get("/v1/keys").status_code == 200
    new = client_of(app, old["key"]).post(f"/v1/keys/{old['id']}/rotate").json
    assert new is not None
    assert new["id"] == old["id"]
    assert new["key"] != old["key"]
    assert_error(client_of(app, old["key"]).get("/v1/keys"), 401, "unauthorized")
    assert client_of(app, new["key"]).get("/v1/keys").status_code == 200


def test_a_user_reaches_neither_other_tenants_keys_nor_admins(app: OpenAPI, admin: FlaskClient) -> None:
    user = client_of(app, made(admin, "emil")["key"])
    other, above = made(admin, "frida"), made(admin, "emil", "admin")
    for key in (other, above):
        assert_error(user.post(f"/v1/keys/{key['id']}/rotate"), 404, "not_found")
        assert_error(user.delete(f"/v1/keys/{key['id']}"), 404, "not_found")
        assert client_of(app, key["key"]).get("/v1/keys").status_code == 200


def test_a_revoked_key_stays_revoked(app: OpenAPI, admin: FlaskClient) -> None:
    key = made(admin, "gustav")
    assert client_of(app, key["key"]).get("/v1/keys").status_code == 200
    revoked = admin.delete(f"/v1/keys/{key['id']}").json
    assert revoked is not None
    assert revoked["revoked_at"]
    assert_error(client_of(app, key["key"]).get("/v1/keys"), 401, "unauthorized")
    assert_error(admin.post(f"/v1/keys/{key['id']}/rotate"), 404, "not_found")
    assert_error(admin.delete(f"/v1/keys/{key['id']}"), 404, "not_found")


def test_a_key_revoked_elsewhere_ends_here_as_well(around: Surroundings) -> None:
    # Given a gateway that believes a key for a moment
    settings = around.settings(key_cache_s=0.1)
    with gateway(settings) as app:
        key = make_key(settings, "anna")
        client = client_of(app, key)
        assert client.get("/v1/keys").status_code == 200
        # When another process revokes it
        with opened(settings) as stores:
            stores.keys.revoke(key[4:20])
        # Then it ends here too
        assert wait_until(lambda: client.get("/v1/keys").status_code == 401, 5)


def test_without_the_database_nobody_gets_in(tmp_path: Path, around: Surroundings) -> None:
    # Given a gateway whose database dies
    with mongo_server(tmp_path / "mongo") as mongo:
        settings = around.settings(mongo_url=mongo.url, mongo_timeout_s=2, key_cache_s=0)
        with gateway(settings) as app:
            client = client_of(app, make_key(settings, "anna"))
            assert client.get("/v1/keys").status_code == 200
            mongo.kill()
            # When a right key and a wrong one come
            for caller in (client, client_of(app, new_key().text)):
                # Then it is the database's absence that is named
                answer = caller.get("/v1/keys")
                assert_error(answer, 503, "database_unavailable")
                assert int(answer.headers["Retry-After"]) > 0
            assert app.test_client().get("/live").status_code == 200


# No keys


def test_without_keys_whoever_asks_is_the_local_tenant(around: Surroundings) -> None:
    with gateway(around.settings(keys="off")) as app:
        answer = app.test_client().post("/v1/keys", json={"tenant": "anna"})
        assert answer.status_code == 201
        me = app.test_client().get("/v1/me").json
        assert me is not None
        assert (me["tenant"], me["scope"], me["key_id"]) == ("local", "admin", None)


def test_a_key_tells_whose_it_is_and_what_it_allows(app: OpenAPI, admin: FlaskClient, around: Surroundings) -> None:
    key = made(admin, "gustav")
    assert client_of(app, key["key"]).get("/v1/me").json == {
        "tenant": "gustav",
        "scope": "user",
        "key_id": key["id"],
        "limits": {"requests_per_minute": None, "gpu_seconds_per_hour": None, "pictures": 10_000},
    }
    settings = around.settings(requests_per_minute=50, gpu_seconds_per_hour=70, max_pictures=3)
    with gateway(settings) as limited:
        me = client_of(limited, make_key(settings, "gustav", "user")).get("/v1/me").json
        assert me is not None
        assert me["limits"] == {"requests_per_minute": 50, "gpu_seconds_per_hour": 70, "pictures": 3}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_keys_can_only_be_off_on_loopback(around: Surroundings, host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        around.settings(keys="off", host=host)


@pytest.mark.parametrize(("keys", "host"), [("off", "127.0.0.1"), ("off", "::1"), ("off", "localhost"), ("on", "::")])
def test_these_keys_and_hosts_go_together(around: Surroundings, keys: str, host: str) -> None:
    assert around.settings(keys=keys, host=host).keys == keys


# The command


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setenv("MAIN_API_MONGO_URL", settings.mongo_url)
    monkeypatch.setenv("MAIN_API_MONGO_DATABASE", settings.mongo_database)
    monkeypatch.setenv("MAIN_API_MONGO_TIMEOUT_S", "5")
    status = keys_command.main(arguments)
    out = capsys.readouterr()
    return status, out.out.strip().rpartition("\n")[2], out.err  # lines of a gateway's log may be before it


def test_the_command_makes_the_first_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], app: OpenAPI, settings: Settings
) -> None:
    # Given a key made on the command line
    run = (monkeypatch, capsys, settings)
    status, key, _ = run_command(*run, "create", "--tenant", "studio", "--scope", "admin", "--name", "first")
    assert status == 0
    # Then the gateway knows it as an admin's
    client = client_of(app, key)
    assert client.post("/v1/keys", json={"tenant": "anna"}).status_code == 201
    # And it can be listed, renewed and revoked there as well
    _, listed, _ = run_command(*run, "list", "--tenant", "studio")
    assert listed == f"{key[4:20]}  studio  admin  valid  first"
    _, renewed, _ = run_command(*run, "rotate", key[4:20])
    assert renewed.startswith(key[:21])
    assert run_command(*run, "revoke", key[4:20])[0] == 0
    status, _, error = run_command(*run, "revoke", key[4:20])
    assert status == 1
    assert "no such key" in error


def test_the_command_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    with pytest.raises(SystemExit):
        run_command(monkeypatch, capsys, settings, "create", "--tenant", "Not A Tenant")
    assert "lower-case" in capsys.readouterr().err
    monkeypatch.setenv("MAIN_API_NONSENSE", "1")
    status, _, error = run_command(monkeypatch, capsys, settings, "list")
    assert status == 1
    assert "MAIN_API_NONSENSE" in error


def test_keys_made_at_once_are_all_different(settings: Settings) -> None:
    with opened(settings) as stores, ThreadPoolExecutor(8) as pool:
        made_keys = set(pool.map(lambda _: stores.keys.create("many", "user")[1].text, range(40)))
    assert len(made_keys) == 40


def test_the_gateway_names_a_wrong_base_model(around: Surroundings) -> None:
    with pytest.raises(InvalidField, match="MAIN_API_DEFAULT_BASE_MODEL"):
        create_app(around.settings(default_base_model="nobody/nothing"))
