"""Models taken away and brought back: the same bytes, or a refusal that leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from embedded_servers import EmbeddedServer
from models_gateway import LIMIT_BYTES, SLOTS, ModelsGateway, models_gateway
from safetensors import safe_open
from safetensors.numpy import save
from small_models import BASE_ALIAS, BASE_NAME, LORA_FILE, UNET_FILE, lora_weights, part_weights, publish, write_full
from werkzeug.test import TestResponse

from enlight.dreambooth_api.model_store import Manifest, ModelDescription, ModelStore
from enlight.main_api.models.transfers import ImportNotes
from enlight.servicekit.errors import Conflict, CorruptModel
from enlight.servicekit.hub_snapshots import COMMIT_FILE
from enlight.servicekit.object_store import CHUNK_BYTES

SUPPORT = Path(__file__).parent / "support"


@pytest.fixture
def gateway(mongo: EmbeddedServer, tmp_path: Path) -> Iterator[ModelsGateway]:
    with models_gateway(mongo.url, tmp_path) as gateway:
        yield gateway


def exported(gateway: ModelsGateway, name: str, query: str = "") -> bytes:
    """A whole export."""
    answer = gateway.ask("GET", f"/v1/models/{name}/export{query}")
    assert answer.status_code == 200, answer.text
    data = answer.get_data()
    answer.close()
    return data


def bring(gateway: ModelsGateway, data: bytes, query: str, *, tenant: str = "anna") -> TestResponse:
    """The answer to an import."""
    path = f"/v1/models/import?{query}"
    return gateway.ask("POST", path, tenant=tenant, data=data, content_type="application/octet-stream")


def nothing_left(gateway: ModelsGateway) -> bool:
    """Whether imports left no file behind, and only these models are in the bucket."""
    return not list((gateway.folder / "imports").glob("*"))


def weights_of(gateway: ModelsGateway, name: str, *, tenant: str = "anna") -> dict[str, str]:
    """SHA-256 of each file of the current version, by path."""
    bucket_id = gateway.names.bucket_id(tenant, name)
    manifest = gateway.store.manifest(bucket_id, gateway.store.current_version(bucket_id))
    return {path: entry.sha256 for path, entry in manifest.files.items()}


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_exported_model_comes_back_the_same(gateway: ModelsGateway, kind: str) -> None:
    # Given a model that one tenant exported
    bucket_id = gateway.train("dog", kind=kind)
    data = exported(gateway, "dog")
    assert bucket_id.encode() not in data
    # When another tenant imports it
    answer = bring(gateway, data, "name=hound", tenant="ben")
    # Then it is there, with the same files and the same story
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == "/v1/models/hound"
    assert weights_of(gateway, "hound", tenant="ben") == weights_of(gateway, "dog")
    brought = gateway.ask("GET", "/v1/models/hound", tenant="ben").get_json()
    original = gateway.ask("GET", "/v1/models/dog").get_json()
    for key in ("kind", "base_model", "instance_prompt", "parameters", "size_bytes"):
        assert brought[key] == original[key]
    # And nothing else is left
    assert nothing_left(gateway)


def test_the_zip_says_what_it_is(gateway: ModelsGateway) -> None:
    # Given an export
    gateway.train("dog")
    answer = gateway.ask("GET", "/v1/models/dog/export")
    # Then a client can keep it under a name, and any tool opens it
    assert answer.content_type == "application/zip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="dog.zip"'
    assert answer.headers["X-Model-Version"] == gateway.ask("GET", "/v1/models/dog").get_json()["version"]
    with zipfile.ZipFile(io.BytesIO(answer.get_data())) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {"manifest.json", UNET_FILE, "unet/config.json"}
    answer.close()


def test_an_older_version_can_be_taken(gateway: ModelsGateway) -> None:
    # Given a model with two versions
    bucket_id = gateway.train("dog", seed=1)
    first, files = gateway.store.current_version(bucket_id), weights_of(gateway, "dog")
    gateway.train("dog", seed=2)
    # When the older one is exported
    data = exported(gateway, "dog", f"?version={first}")
    # Then it is that one
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert hashlib.sha256(archive.read(UNET_FILE)).hexdigest() == files[UNET_FILE]
    # And one that is not there, or cannot be, is refused in the tenant's words
    unknown = gateway.ask("GET", "/v1/models/dog/export?version=none")
    assert unknown.status_code == 404
    assert bucket_id not in unknown.text
    assert gateway.ask("GET", "/v1/models/dog/export?version=../x").status_code == 422


def test_a_lora_goes_as_one_file_that_diffusers_reads(gateway: ModelsGateway, tmp_path: Path) -> None:
    # Given a LoRA
    gateway.train("dog", kind="lora", seed=3)
    # When it is exported as safetensors
    data = exported(gateway, "dog", "?format=safetensors")
    # Then it is the file that was trained, with its metadata
    path = tmp_path / "dog.safetensors"
    path.write_bytes(data)
    with safe_open(path, framework="numpy") as file:
        assert "lora_adapter_metadata" in file.metadata()
        assert set(file.keys()) == set(lora_weights(seed=3))
    # When it is brought back under another name, by an alias of its base
    answer = bring(gateway, data, f"name=again&base_model={BASE_ALIAS}&instance_prompt=a%20sks%20dog")
    # Then it is the same LoRA, of the base's proper name
    assert answer.status_code == 201
    assert (answer.get_json()["base_model"], answer.get_json()["instance_prompt"]) == (BASE_NAME, "a sks dog")
    assert weights_of(gateway, "again") == weights_of(gateway, "dog")


def test_a_full_model_is_no_single_file(gateway: ModelsGateway) -> None:
    # Given a full model
    gateway.train("dog")
    # When it is asked for as one safetensors file, several times
    for _ in range(SLOTS + 1):
        answer = gateway.ask("GET", "/v1/models/dog/export?format=safetensors")
        # Then that is refused, and takes nobody's place
        assert answer.status_code == 422
        assert "zip" in answer.get_json()["message"]


def test_a_model_without_a_version_cannot_be_taken(gateway: ModelsGateway) -> None:
    # Given a name whose training has not ended
    gateway.names.reserve("anna", "dog")
    # When it is exported
    # Then there is nothing to give
    assert gateway.ask("GET", "/v1/models/dog/export").status_code == 404


@pytest.mark.parametrize(
    ("data", "query", "field"),
    [
        (b"", "name=x&base_model=tests/small", "body"),
        (pickle.dumps({"unet": [1.0]}), "name=x&base_model=tests/small", LORA_FILE),
        (b"PK\x03\x04 and then nothing", "name=x", "body"),
        (save(lora_weights(seed=1)), "name=x", "base_model"),
        (save(lora_weights(seed=1)), "name=x&base_model=unknown/base", "base_model"),
        (save(lora_weights(seed=1))[:-1], "name=x&base_model=tests/small", LORA_FILE),
        (save({"unet.evil": np.zeros(1)}), "name=x&base_model=tests/small", LORA_FILE),
        (save(lora_weights(seed=1)), "name=../x&base_model=tests/small", "name"),
        (save(lora_weights(seed=1)), "base_model=tests/small", "name"),
    ],
    ids=["nothing", "a pickle", "a broken zip", "no base", "unknown base", "cut", "not a LoRA", "bad name", "no name"],
)
def test_what_is_no_model_is_refused(gateway: ModelsGateway, data: bytes, query: str, field: str) -> None:
    # Given a file that is no model
    # When it is imported
    answer = bring(gateway, data, query)
    # Then the answer names what is wrong, no name is taken, and nothing is left
    assert answer.status_code == 422, answer.text
    assert answer.get_json()["error"]["details"]["fields"][0]["field"] == field
    assert gateway.ask("GET", "/v1/models").get_json()["data"] == []
    assert nothing_left(gateway)
    assert not list(gateway.folder.glob("bucket/*/*/manifest.json"))


def test_a_zip_of_another_bases_weights_is_refused(gateway: ModelsGateway, tmp_path: Path) -> None:
    # Given an exported model whose weights, well described, do not fit the base
    bucket_id = gateway.names.reserve("ben", "odd")
    folder = write_full(tmp_path / "odd", seed=1)
    (folder / UNET_FILE).write_bytes(save({**part_weights("unet", seed=1), "conv_in.bias": np.zeros(9, np.float16)}))
    publish(gateway.store, bucket_id, folder, "full")
    answer = gateway.ask("GET", "/v1/models/odd/export", tenant="ben")
    data = answer.get_data()
    answer.close()
    # When it is imported
    # Then it is refused, and no name is taken
    refused = bring(gateway, data, "name=odd")
    assert refused.status_code == 422
    assert "conv_in.bias" in refused.get_json()["message"]
    assert gateway.ask("GET", "/v1/models").get_json()["data"] == []
    assert nothing_left(gateway)


def test_a_name_with_a_model_is_not_overwritten(gateway: ModelsGateway) -> None:
    # Given a model, and a name whose training has not ended
    gateway.train("dog")
    gateway.names.reserve("anna", "later")
    data, before = exported(gateway, "dog"), weights_of(gateway, "dog")
    # When a file is imported under either name
    # Then the model stays, and the free name takes it
    assert bring(gateway, data, "name=dog").status_code == 409
    assert weights_of(gateway, "dog") == before
    assert bring(gateway, data, "name=later").status_code == 201
    # And another tenant's model of that name is none of its business
    assert bring(gateway, data, "name=dog", tenant="ben").status_code == 201


def test_a_taken_name_is_refused_before_the_body_is_read(gateway: ModelsGateway) -> None:
    # Given a model, and a body that nobody may read
    gateway.train("dog")

    class Unread:
        def read(self, size: int, /) -> bytes:
            raise AssertionError("the body was read")

    # When it is imported under the model's name
    # Then it is refused at once
    with pytest.raises(Conflict):
        gateway.transfers.receive("anna", "dog", Unread(), length_bytes=None, notes=ImportNotes(None, ""))


def test_a_name_that_is_taken_meanwhile_is_refused(gateway: ModelsGateway) -> None:
    # Given a body during whose arrival a training of the same name ends
    gateway.train("first", seed=1)
    data = io.BytesIO(exported(gateway, "first"))

    class Slow:
        def read(self, size: int, /) -> bytes:
            piece = data.read(size)
            if not piece:
                gateway.train("dog", seed=2)
            return piece

    # When it is imported
    # Then the training's model stays the current one
    with pytest.raises(Conflict):
        gateway.transfers.receive("anna", "dog", Slow(), length_bytes=None, notes=ImportNotes(None, ""))
    shown = gateway.ask("GET", "/v1/models/dog").get_json()
    assert len(shown["versions"]) == 1
    assert nothing_left(gateway)


def test_a_model_that_is_removed_while_it_comes_leaves_nothing(
    gateway: ModelsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an import whose name is removed just before it is published
    gateway.train("dog")
    data = exported(gateway, "dog")
    publish_files = gateway.store.publish
    published: list[str] = []

    def publish_late(bucket_id: str, *arguments: Any, **more: Any) -> Manifest:
        assert gateway.ask("DELETE", "/v1/models/new").status_code == 200
        published.append(bucket_id)
        return publish_files(bucket_id, *arguments, **more)

    monkeypatch.setattr(gateway.store, "publish", publish_late)
    # When it is imported
    # Then it is as if it had never been: no model, and no files that nobody can name
    assert bring(gateway, data, "name=new").status_code == 409
    assert gateway.ask("GET", "/v1/models/new").status_code == 404
    assert gateway.objects(published[0]) == []


def test_a_model_of_another_revision_of_its_base_is_refused(gateway: ModelsGateway, tmp_path: Path) -> None:
    # Given a model that was trained on another commit of the base than the one that is here
    bucket_id = gateway.names.reserve("ben", "dog")
    description = ModelDescription(BASE_NAME, "a" * 40, "full", "a sks dog", {})
    gateway.store.publish(bucket_id, write_full(tmp_path / "model", seed=1), description)
    answer = gateway.ask("GET", "/v1/models/dog/export", tenant="ben")
    data = answer.get_data()
    answer.close()
    (gateway.folder / "models/small" / COMMIT_FILE).write_text("b" * 40)
    # When it is imported
    refused = bring(gateway, data, "name=dog")
    # Then it is refused, as the engine would refuse to use it
    assert refused.status_code == 422
    assert refused.get_json()["error"]["details"]["fields"][0]["field"] == "base_revision"
    # And one of the same commit passes
    (gateway.folder / "models/small" / COMMIT_FILE).write_text("a" * 40)
    assert bring(gateway, data, "name=dog").status_code == 201


def test_other_content_types_are_refused(gateway: ModelsGateway) -> None:
    # Given a form
    # When it is sent as an import
    answer = gateway.ask("POST", "/v1/models/import?name=x", data={"file": (io.BytesIO(b"x"), "model.zip")})
    # Then the answer says what to send
    assert answer.status_code == 415


def test_a_body_over_the_limit_is_refused_while_it_comes(gateway: ModelsGateway) -> None:
    # Given a body without a length that is longer than the limit
    class Endless(io.RawIOBase):
        sent_bytes = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            self.sent_bytes += len(buffer)
            return len(buffer)

    body = Endless()
    # When it is sent
    answer = gateway.ask(
        "POST",
        "/v1/models/import?name=x&base_model=tests/small",
        content_type="application/octet-stream",
        environ_overrides={"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": None},
    )
    # Then no more than the limit was read, and nothing is left
    assert answer.status_code == 413
    assert body.sent_bytes <= LIMIT_BYTES + 2 * CHUNK_BYTES
    assert nothing_left(gateway)


def test_a_full_disk_is_said_before_the_body_is_read(gateway: ModelsGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a disk with less room than the body needs
    gateway.train("dog")
    data = exported(gateway, "dog")
    usage = shutil.disk_usage(gateway.folder)._replace(free=len(data))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    # When a model is imported
    answer = bring(gateway, data, "name=hound")
    # Then there is no room
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "storage_full")
    assert nothing_left(gateway)
    # And so it is where the disk cannot be written to at all
    monkeypatch.undo()
    shutil.rmtree(gateway.folder / "imports")
    (gateway.folder / "imports").write_text("in the way")
    assert bring(gateway, data, "name=hound").get_json()["error"]["code"] == "storage_full"


def test_only_some_go_at_once(gateway: ModelsGateway) -> None:
    # Given as many exports under way as may be
    gateway.train("dog")
    data = exported(gateway, "dog")
    with ExitStack() as under_way:
        for _ in range(SLOTS):
            under_way.enter_context(closing(gateway.ask("GET", "/v1/models/dog/export", buffered=False)))
        # When one more model shall go or come
        # Then it has to wait
        for answer in (gateway.ask("GET", "/v1/models/dog/export"), bring(gateway, data, "name=hound")):
            assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "queue_full")
            assert answer.headers["Retry-After"]
    # When they ended, though none was read to its end
    # Then there is room again, also after exports that failed and heads without a body
    for _ in range(SLOTS + 1):
        assert gateway.ask("GET", "/v1/models/dog/export?version=none").status_code == 404
        gateway.ask("HEAD", "/v1/models/dog/export").close()
    assert exported(gateway, "dog") == data


def test_a_removal_does_not_cut_an_export(gateway: ModelsGateway) -> None:
    # Given an export of which the first piece was read
    bucket_id = gateway.train("dog")
    whole = exported(gateway, "dog")
    answer = gateway.ask("GET", "/v1/models/dog/export", buffered=False)
    pieces = answer.iter_encoded()
    first = next(iter(pieces))
    # When the model is removed
    removed = gateway.ask("DELETE", "/v1/models/dog").get_json()
    # Then the answer says that a copy is in use, and the export goes on to its end
    assert removed["verified"]["gateway_copies_in_use"] == 1
    assert first + b"".join(pieces) == whole
    # And the copy goes with it
    answer.close()
    assert not list((gateway.folder / "copies/models").glob(f"{bucket_id}/*"))


def test_damage_in_the_bucket_is_an_error_and_not_a_file(gateway: ModelsGateway) -> None:
    # Given a model of which a byte changed in the bucket
    bucket_id = gateway.train("dog")
    path = next(path for path in gateway.objects(bucket_id) if path.suffix == ".safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    # When it is exported
    answer = gateway.ask("GET", "/v1/models/dog/export")
    # Then not a byte of it leaves
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, CorruptModel.code)
    assert bucket_id not in answer.text


def test_an_import_that_was_killed_is_swept_away(gateway: ModelsGateway) -> None:
    # Given what a killed process left two days ago, and what another one is receiving now
    imports = gateway.folder / "imports"
    dead, living = imports / ".import.dead.tmp", imports / ".import.living.tmp"
    for folder in (dead, living):
        folder.mkdir(parents=True)
    two_days_ago_s = time.time() - 2 * 24 * 3600
    subprocess.run(["touch", "-d", f"@{two_days_ago_s:.0f}", str(dead)], check=True)
    # When the next import comes
    bring(gateway, b"no model", "name=x")
    # Then only the dead one's is gone
    assert not dead.exists()
    assert living.exists()


def test_two_imports_of_one_name_leave_a_whole_model(gateway: ModelsGateway) -> None:
    # Given two different models
    gateway.train("dog", seed=1)
    gateway.train("cat", seed=2)
    files = [exported(gateway, name) for name in ("dog", "cat")]
    statuses: list[int] = []

    def run(data: bytes) -> None:
        client = gateway.app.test_client()
        answer = client.post(
            "/v1/models/import?name=new", data=data, content_type="application/zip", headers={"X-Tenant": "ben"}
        )
        statuses.append(answer.status_code)

    # When both are imported under one name at once
    threads = [threading.Thread(target=run, args=(data,)) for data in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Then one of them is there, whole
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert weights_of(gateway, "new", tenant="ben") in [weights_of(gateway, name) for name in ("dog", "cat")]


@contextmanager
def served(gateway: ModelsGateway, mongo_url: str) -> Iterator[str]:
    """The same gateway under gunicorn; its URL."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    arguments = f"'{mongo_url}', '{gateway.database.name}', '{gateway.folder}'"
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
    command += ["--threads", "8", "--chdir", str(SUPPORT), f"models_gateway:create_app({arguments})"]
    with (gateway.folder / "gunicorn.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("gunicorn did not start")


def test_models_go_over_real_connections(gateway: ModelsGateway, mongo: EmbeddedServer, tmp_path: Path) -> None:
    # Given a model of 24 MiB behind gunicorn
    bucket_id = gateway.names.reserve("anna", "dog")
    folder = tmp_path / "large"
    (folder / "unet").mkdir(parents=True)
    (folder / UNET_FILE).write_bytes(save({"conv_in.weight": np.ones(12 << 20, np.float16)}))
    publish(gateway.store, bucket_id, folder, "full")
    gateway.train("small")
    with served(gateway, mongo.url) as url:
        headers = {"X-Tenant": "anna"}
        # When clients leave in the middle of exports, more than there are places
        place = urlsplit(url)
        for _ in range(3 * SLOTS):
            with socket.create_connection((place.hostname, place.port), timeout=30) as client:
                client.sendall(b"GET /v1/models/dog/export HTTP/1.1\r\nHost: x\r\nX-Tenant: anna\r\n\r\n")
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            _wait_for_a_place(f"{url}/v1/models/small/export", headers)
        # Then the next one gets all of it
        request = urllib.request.Request(f"{url}/v1/models/dog/export", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            data = answer.read()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            assert archive.read(UNET_FILE) == (folder / UNET_FILE).read_bytes()
        # And what a client sends is imported
        small = exported(gateway, "small")
        query = "/v1/models/import?name=again"
        post_headers = {**headers, "Content-Type": "application/zip"}
        post = urllib.request.Request(f"{url}{query}", data=small, headers=post_headers)
        with urllib.request.urlopen(post, timeout=60) as answer:
            assert answer.status == 201
        # When a client leaves in the middle of an import
        with socket.create_connection((place.hostname, place.port), timeout=30) as client:
            head = f"POST {query}x HTTP/1.1\r\nHost: x\r\nX-Tenant: anna\r\nContent-Type: application/zip\r\n"
            client.sendall(f"{head}Content-Length: {len(small)}\r\n\r\n".encode() + small[: len(small) // 2])
        # Then nothing of it stays
        _until(lambda: nothing_left(gateway))
    assert weights_of(gateway, "again") == weights_of(gateway, "small")
    assert [row["id"] for row in gateway.ask("GET", "/v1/models").get_json()["data"]] == ["again", "dog", "small"]


def _wait_for_a_place(url: str, headers: dict[str, str]) -> None:
    """Until an export works: the server notices a client's leaving at its next write."""

    def works() -> bool:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
                return bool(answer.read())
        except urllib.error.HTTPError as error:
            assert error.code == 503  # noqa: PT017 — any other error is a failure
            return False

    _until(works)


def _until(condition: object) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_what_was_brought_is_what_the_engine_reads(gateway: ModelsGateway, tmp_path: Path) -> None:
    # Given imported models, full and LoRA
    torch = pytest.importorskip("torch")
    from enlight.dreambooth_api import fine_tune

    for kind in ("full", "lora"):
        gateway.train(f"{kind}-first", kind=kind, seed=5)
        assert bring(gateway, exported(gateway, f"{kind}-first"), f"name={kind}").status_code == 201
        # When the engine reads them
        bucket_id = gateway.names.bucket_id("anna", kind)
        store: ModelStore = gateway.store
        manifest = store.manifest(bucket_id, store.current_version(bucket_id))
        with gateway.copies.lease(bucket_id) as copy:
            found = fine_tune.read_fine_tune(copy.folder, manifest, device=torch.device("cpu"))
        # Then it finds the weights that were trained
        assert found.names == (
            {"unet.mid.attn.to_q.weight", "unet.mid.attn.to_v.weight"}
            if kind == "lora"
            else {f"unet.{name}" for name in part_weights("unet", seed=5)}
        )
