"""`/v1/files` as OpenAI's own SDK asks for it, of a gateway that listens."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import openai
import pytest
from gateways import Surroundings, opened, surroundings
from openai import OpenAI
from openai_gateway import Listening, listening_gateway
from photo_zips import PHOTOS, zip_of, zip_of_photos

from enlight.main_api.adapters.openai.files.archive import ArchiveLimits
from enlight.main_api.adapters.openai.files.records import UploadedFileRecords
from enlight.main_api.adapters.openai.files.store import UploadedFiles
from enlight.main_api.stores import Stores

DAY_S = 24 * 3600
LONG = b"".join(b"%06d" % number for number in range(30_000))
"""Of it, packed, little is left, and yet more than of a bomb."""


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("openai-files")) as servers:
        yield servers


@pytest.fixture(scope="module")
def listening(around: Surroundings) -> Iterator[Listening]:
    with listening_gateway(around, max_train_body_bytes=300_000) as running:
        yield running


@pytest.fixture
def client(listening: Listening) -> Iterator[OpenAI]:
    """Of a tenant without files."""
    with listening.client() as client:
        for file in client.files.list():
            client.files.delete(file.id)
        yield client


def sweep(stores: Stores, **options: Any) -> None:
    """What a gateway does every hour."""
    limits = ArchiveLimits(photo_bytes=1, all_photos_bytes=1)
    records = UploadedFileRecords(stores.database)
    UploadedFiles(records, stores.uploaded_files, limits=limits, max_bytes=1).sweep(**options)


def upload(client: OpenAI, data: bytes = b"", name: str = "photos.zip", **options: Any) -> openai.types.FileObject:
    return client.files.create(file=(name, data or zip_of_photos()), **{"purpose": "fine-tune", **options})


def test_a_file_is_uploaded_shown_taken_and_deleted(client: OpenAI, listening: Listening) -> None:
    # Given a ZIP of photos
    packed = zip_of({"folder/": b"", "__MACOSX/._a": b"\0", **PHOTOS})
    # When it is uploaded
    file = upload(client, packed, "robot.zip")
    # Then it is what OpenAI's clients expect
    told = {"object": "file", "purpose": "fine-tune", "status": "processed", "bytes": len(packed)}
    assert {name: getattr(file, name) for name in told} == told
    assert file.id.startswith("file-")
    assert file.filename == "robot.zip"
    assert abs(file.created_at - time.time()) < 60
    assert file.expires_at == file.created_at + 30 * DAY_S
    # And it is there, byte for byte
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id) == file
    assert list(client.files.list()) == [file]
    assert client.files.content(file.id).read() == packed
    # And when it is deleted it is gone, its object too
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        client.files.retrieve(file.id)
    with opened(listening.settings) as stores:
        assert list(stores.uploaded_files.list(file.id)) == []


def test_the_list_is_read_page_by_page(client: OpenAI) -> None:
    ids = [upload(client).id for _ in range(5)]
    # When the list is read in pages of two, either way
    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids
    # Then each page says whether there is another
    page = client.files.list(limit=2, order="asc", after=ids[1])
    assert [file.id for file in page.data] == ids[2:4]
    assert page.has_more
    assert not client.files.list(limit=2, order="asc", after=ids[2]).has_more
    # And files of another purpose there are none
    assert client.files.list(purpose="batch").data == []


@pytest.mark.parametrize("purpose", ["assistants", "batch", "vision", "user_data", "evals", ""])
def test_other_purposes_are_refused_by_name(client: OpenAI, purpose: str) -> None:
    with pytest.raises(openai.BadRequestError, match="only fine-tune is taken here") as refused:
        upload(client, purpose=cast(Literal["evals"], purpose))
    assert (refused.value.param, refused.value.code) == ("purpose", "invalid_value")
    assert client.files.list().data == []


@pytest.mark.parametrize(
    ("entries", "status", "code", "match"),
    [
        ({**PHOTOS, "notes.txt": b"a sks chair"}, 415, "unsupported_image", "'notes.txt' in the zip"),
        ({**PHOTOS, "half.png": PHOTOS["photo-0.png"][:80]}, 400, "broken_image", "'half.png' in the zip"),
        ({**PHOTOS, "../evil.png": PHOTOS["photo-0.png"]}, 400, "invalid_value", "path out of the zip"),
        ({f"{number}.png": LONG for number in range(2)}, 400, "invalid_value", "300000 bytes together"),
        ({}, 400, "invalid_value", "must hold 1 to 50 photos"),
    ],
)
def test_a_zip_of_something_else_is_refused_and_not_kept(
    client: OpenAI, listening: Listening, entries: dict[str, bytes], status: int, code: str, match: str
) -> None:
    # When it is uploaded
    with pytest.raises(openai.APIStatusError, match=match) as refused:
        upload(client, zip_of(entries, method=zipfile.ZIP_DEFLATED))
    # Then the error says what is wrong with which entry
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert refused.value.type == "invalid_request_error"
    # And nothing of it is there
    assert client.files.list().data == []
    with opened(listening.settings) as stores:
        assert list(stores.uploaded_files.list()) == []


def test_a_single_photo_is_no_zip(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send a ZIP of photos") as refused:
        upload(client, PHOTOS["photo-0.png"], "photo.png")
    assert refused.value.param == "file"


def test_a_body_over_the_limit_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="limit of 300000 bytes") as refused:
        upload(client, bytes(300_001))
    assert (refused.value.status_code, refused.value.code) == (413, "body_too_large")


FILE = ("photos.zip", zip_of_photos())


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        ({"files": {"file": FILE}}, "purpose", "missing_required_parameter"),
        ({"data": {"purpose": "fine-tune"}, "files": {"other": FILE}}, "other", "invalid_value"),
        ({"data": {"purpose": "fine-tune", "x": "y"}, "files": {"file": FILE}}, "x", "unknown_parameter"),
        ({"data": [("purpose", "fine-tune"), ("purpose", "x")], "files": {"file": FILE}}, "purpose", "invalid_value"),
        ({"data": {"purpose": "fine-tune"}, "files": [("file", FILE), ("file", FILE)]}, "file", "invalid_value"),
        ({"json": {"purpose": "fine-tune"}}, None, "unsupported_media_type"),
        ({"data": b"--", "headers": {"Content-Type": "multipart/form-data"}}, "file", "invalid_value"),
    ],
)
def test_a_form_of_another_shape_is_refused(
    client: OpenAI, listening: Listening, sent: dict[str, Any], param: str | None, code: str
) -> None:
    answer = listening.ask("POST", "/v1/files", **sent)
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), answer.text
    assert answer.status_code == (415 if param is None else 400)


def test_a_file_expires_when_it_is_asked_to(client: OpenAI, listening: Listening) -> None:
    # Given a file that stays for an hour, and one that stays longer
    short = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    long = upload(client)
    assert short.expires_at == short.created_at + 3600
    # When the hour is over
    with opened(listening.settings) as stores:
        past = datetime.now(UTC) - timedelta(seconds=1)
        stores.database["uploaded_files"].update_one({"_id": short.id}, {"$set": {"expires_at": past}})
        # Then nobody sees it any more
        assert [file.id for file in client.files.list()] == [long.id]
        for ask in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                ask(short.id)
        # And the sweep removes all of it, and nothing else
        sweep(stores, untouched_s=0)
        assert [info.key for info in stores.uploaded_files.list()] == [f"{long.id}/file"]
        assert stores.database["uploaded_files"].count_documents({}) == 1
    assert client.files.content(long.id).read() == zip_of_photos()


@pytest.mark.parametrize(
    "expires_after",
    [
        {"anchor": "created_at", "seconds": 3599},
        {"anchor": "created_at", "seconds": 30 * DAY_S + 1},
        {"anchor": "last_active_at", "seconds": 3600},
        {"anchor": "created_at"},
        {"seconds": 3600},
        {"anchor": "created_at", "seconds": "soon"},
    ],
)
def test_other_expiries_are_refused(client: OpenAI, expires_after: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        upload(client, expires_after=expires_after)


def test_objects_that_nobody_knows_are_swept_after_a_while(client: OpenAI, listening: Listening) -> None:
    with opened(listening.settings) as stores:
        # Given what a gateway left that died between a file and its record
        stores.uploaded_files.put_bytes("file-lost/file", b"PK", if_absent=True)
        # When the sweep comes at once, and later
        sweep(stores)
        assert [info.key for info in stores.uploaded_files.list()] == ["file-lost/file"]
        sweep(stores, untouched_s=0)
        # Then it is removed only later
        assert list(stores.uploaded_files.list()) == []


def test_a_file_that_changed_in_the_bucket_is_not_given(client: OpenAI, listening: Listening) -> None:
    file = upload(client)
    with opened(listening.settings) as stores:
        stores.uploaded_files.put_bytes(f"{file.id}/file", zip_of_photos(4))
    with pytest.raises(openai.InternalServerError, match="not the one that was uploaded"):
        client.files.content(file.id)


def test_another_tenant_s_file_is_not_there(client: OpenAI, listening: Listening) -> None:
    file = upload(client)
    with listening.client(api_key=listening.strangers_key) as stranger:
        assert stranger.files.list().data == []
        for ask in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
            with pytest.raises(openai.NotFoundError):
                ask(file.id)
    assert client.files.retrieve(file.id) == file


def test_without_a_key_there_is_nothing(listening: Listening) -> None:
    with listening.client(api_key="enl_none") as nobody, pytest.raises(openai.AuthenticationError) as refused:
        upload(nobody)
    assert refused.value.code == "invalid_api_key"


def test_a_tenant_may_have_only_so_many_bytes(around: Surroundings) -> None:
    packed = zip_of_photos()
    with listening_gateway(around, max_files_bytes=2 * len(packed)) as few, few.client() as client:
        # Given as many bytes as may be
        ids = [upload(client, packed).id for _ in range(2)]
        # When one more file comes
        with pytest.raises(openai.RateLimitError, match="may be kept; delete some first") as refused:
            upload(client, packed)
        # Then it is refused, and no client tries it again
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["X-Should-Retry"] == "false"
        # And there is room for others, and after a deletion
        with few.client(api_key=few.strangers_key) as stranger:
            upload(stranger, packed)
        client.files.delete(ids[0])
        upload(client, packed)
