"""GcsStore against a fake-gcs-server that is away, hangs, cuts, lies or is busy."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_gcs import FakeGcs, fake_gcs
from fault_proxy import Fault

from enlight.servicekit.errors import Conflict, NotFound, StorageUnavailable
from enlight.servicekit.gcs_store import GcsStore

TIMEOUT_S = 0.3
RETRY_TOTAL_S = 0.6
LIMIT_S = TIMEOUT_S + RETRY_TOTAL_S + 1.5  # what is over is for a busy machine
MEDIA = "GET .*alt=media"


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    with fake_gcs(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def server(gcs: FakeGcs) -> Iterator[FakeGcs]:
    yield gcs
    gcs.proxy.clear()


@pytest.fixture
def patient(server: FakeGcs, tmp_path: Path) -> GcsStore:
    """A store for setting up and looking afterwards, which a busy machine does not disturb."""
    store = GcsStore("modelids", prefix=tmp_path.name, timeout_s=10, retry_total_s=10, endpoint=server.url)
    store.put_bytes("a", b"one", if_absent=True)
    server.proxy.exchanges.clear()
    return store


@pytest.fixture
def store(server: FakeGcs, patient: GcsStore, tmp_path: Path) -> GcsStore:
    return GcsStore(
        "modelids",
        prefix=tmp_path.name,
        timeout_s=TIMEOUT_S,
        retry_total_s=RETRY_TOTAL_S,
        endpoint=server.url,
    )


def calls(store: GcsStore, path: Path) -> dict[str, Callable[[], object]]:
    path.write_bytes(b"x")
    return {
        "put_file": lambda: store.put_file("f", path, if_absent=True),
        "put_bytes": lambda: store.put_bytes("b", b"x", if_absent=True),
        "get_bytes": lambda: store.get_bytes("a"),
        "download": lambda: store.download("a", len),
        "list": lambda: [*store.list()],
        "delete": lambda: store.delete("a"),
    }


def assert_all_unavailable(store: GcsStore, path: Path) -> None:
    """Every call of the interface, at the same time, ends in StorageUnavailable within the limits."""

    def attempt(call: Callable[[], object]) -> tuple[object, float]:
        started = time.monotonic()
        try:
            outcome = call()
        except StorageUnavailable as error:
            outcome = type(error)
        return outcome, time.monotonic() - started

    all_calls = calls(store, path)
    with ThreadPoolExecutor(len(all_calls)) as pool:
        for name, (outcome, took_s) in zip(all_calls, pool.map(attempt, all_calls.values()), strict=True):
            assert outcome is StorageUnavailable, (name, outcome)
            assert took_s < LIMIT_S, (name, took_s)


CALLS = ("put_file", "put_bytes", "get_bytes", "download", "list", "delete")


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < limit_s


@pytest.mark.parametrize(
    "fault",
    [
        Fault(black_hole=True, times=None),
        Fault(reset=True, times=None),
        Fault(status=503, times=None),
        Fault(status=429, times=None),
    ],
    ids=["black-hole", "reset", "503", "429"],
)
def test_a_dead_bucket_is_reported_in_time(server: FakeGcs, store: GcsStore, tmp_path: Path, fault: Fault) -> None:
    # Given a bucket that answers nothing, or only errors
    server.proxy.inject(replace(fault))
    # When it is called, then the caller knows within the limits it set
    assert_all_unavailable(store, tmp_path / "file")


def test_a_closed_port_is_reported_in_time(tmp_path: Path) -> None:
    store = GcsStore("modelids", timeout_s=TIMEOUT_S, retry_total_s=RETRY_TOTAL_S, endpoint="http://127.0.0.1:9")
    assert_all_unavailable(store, tmp_path / "file")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", [Fault(status=503), Fault(reset=True)], ids=["503", "reset"])
def test_a_short_failure_is_repeated(
    server: FakeGcs, patient: GcsStore, tmp_path: Path, call: str, fault: Fault
) -> None:
    server.proxy.inject(replace(fault))
    calls(patient, tmp_path / "file")[call]()
    assert len(server.proxy.exchanges) >= 2


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_refusal_is_not_repeated(server: FakeGcs, store: GcsStore, tmp_path: Path, call: str, status: int) -> None:
    server.proxy.inject(Fault(status=status, times=None))
    with within(LIMIT_S), pytest.raises(StorageUnavailable):
        calls(store, tmp_path / "file")[call]()
    assert len(server.proxy.exchanges) == 1


def test_uploads_without_a_condition_are_not_repeated(server: FakeGcs, store: GcsStore, tmp_path: Path) -> None:
    # Given a bucket that fails once
    path = tmp_path / "file"
    path.write_bytes(b"x")
    for write in (lambda: store.put_bytes("b", b"x"), lambda: store.put_file("f", path)):
        server.proxy.exchanges.clear()
        server.proxy.inject(Fault(status=503))
        # When something is written whose repetition could undo a newer write, then it is tried once
        with pytest.raises(StorageUnavailable):
            write()
        assert len(server.proxy.exchanges) == 1


def test_a_lost_answer_to_a_condition_is_a_conflict(server: FakeGcs, patient: GcsStore) -> None:
    # Given a bucket that writes the object, but whose answer gets lost
    server.proxy.inject(Fault(match="POST", reset=True, cut_response_after=0))
    # When it is made under a condition, then the repetition meets the caller's own object
    with pytest.raises(Conflict):
        patient.put_bytes("b", b"x", if_absent=True)
    assert patient.get_bytes("b")[0] == b"x"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("position", [0, 1, 9_000, 1 << 20, (3 << 20) - 1])
def test_a_download_goes_on_where_it_broke(
    server: FakeGcs, patient: GcsStore, tmp_path: Path, position: int, *, reset: bool
) -> None:
    # Given an object of 3 MiB
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 << 20))
    patient.put_file("big", path, if_absent=True)
    # When the connection breaks twice
    server.proxy.inject(Fault(match=MEDIA, cut_response_after=position, reset=reset, times=2))
    digest = hashlib.sha256()
    size = patient.download("big", digest.update)
    # Then every byte arrives once
    assert (size, digest.digest()) == (3 << 20, hashlib.sha256(path.read_bytes()).digest())


def test_progress_renews_the_time_for_repetitions(server: FakeGcs, patient: GcsStore, tmp_path: Path) -> None:
    # Given a download that breaks more often than the time of one failure would allow
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2 << 20))
    patient.put_file("big", path, if_absent=True)
    server.proxy.inject(Fault(match=MEDIA, cut_response_after=200_000, latency_s=0.2, times=5))
    # When it takes longer in all than retry_total_s, then it still ends well
    store = GcsStore("modelids", prefix=tmp_path.name, timeout_s=10, retry_total_s=RETRY_TOTAL_S, endpoint=server.url)
    started = time.monotonic()
    assert store.download("big", len) == 2 << 20
    assert time.monotonic() - started > RETRY_TOTAL_S


def test_a_download_that_hangs_in_the_middle_ends(
    server: FakeGcs, store: GcsStore, patient: GcsStore, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    patient.put_file("big", path, if_absent=True)
    server.proxy.inject(Fault(match=MEDIA, hang_response_after=1_000))
    server.proxy.inject(Fault(match=MEDIA, black_hole=True, times=None))
    with within(LIMIT_S + TIMEOUT_S), pytest.raises(StorageUnavailable):
        store.download("big", len)


def test_small_objects_are_checked(server: FakeGcs, store: GcsStore, patient: GcsStore) -> None:
    # Given a byte that flips on its way, once, and then always
    server.proxy.inject(Fault(match=MEDIA, flip_response_at=1))
    assert patient.get_bytes("a")[0] == b"one"
    server.proxy.inject(Fault(match=MEDIA, flip_response_at=1, times=None))
    with within(LIMIT_S), pytest.raises(StorageUnavailable):
        store.get_bytes("a")


def test_small_uploads_are_checked(server: FakeGcs, patient: GcsStore) -> None:
    # Given a byte of the object that flips on its way to the bucket (the object is most of the request)
    for at in range(500, 2_500, 200):
        server.proxy.inject(Fault(match="POST", flip_request_at=at))
        # When it is written, then that is no success
        with pytest.raises(StorageUnavailable):
            patient.put_bytes("flipped", b"x" * 3_000)
        server.proxy.clear()


@pytest.mark.parametrize(("size_bytes", "position"), [(1_000, 500), (20 << 20, 500), (20 << 20, 5_000_000)])
def test_a_cut_upload_leaves_nothing(
    server: FakeGcs, store: GcsStore, patient: GcsStore, tmp_path: Path, size_bytes: int, position: int
) -> None:
    # Given uploads that always break
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size_bytes))
    server.proxy.inject(Fault(match="POST|PUT", cut_request_after=position, times=None))
    # When one is tried, then no reader sees half of it
    with pytest.raises(StorageUnavailable):
        store.put_file("cut", path, if_absent=True)
    with pytest.raises(NotFound):
        patient.get_bytes("cut")
    # And once the network is back, it goes through
    server.proxy.clear()
    patient.put_file("cut", path, if_absent=True)
    digest = hashlib.sha256()
    patient.download("cut", digest.update)
    assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()


def test_a_missing_bucket_is_no_missing_object(server: FakeGcs, tmp_path: Path) -> None:
    store = GcsStore("no-such-bucket", timeout_s=2, retry_total_s=1, endpoint=server.url)
    (tmp_path / "file").write_bytes(b"x")
    writes: list[Callable[[], object]] = [
        lambda: store.put_bytes("a", b"x"),
        lambda: store.put_file("a", tmp_path / "file"),
        lambda: [*store.list()],
    ]
    for write in writes:
        with pytest.raises(StorageUnavailable, match="no bucket no-such-bucket"):
            write()


def test_a_token_server_that_hangs_is_reported_in_time(server: FakeGcs, tmp_path: Path) -> None:
    # Given credentials of a service account whose token endpoint never answers
    server.proxy.inject(Fault(match="POST /token", black_hole=True, times=None))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    credentials = {
        "type": "service_account",
        "client_email": "nobody@example.invalid",
        "private_key": key.decode(),
        "token_uri": f"{server.url}/token",
    }
    (tmp_path / "credentials.json").write_text(json.dumps(credentials))
    script = f"""
import time
from enlight.servicekit.errors import StorageUnavailable
from enlight.servicekit.gcs_store import GcsStore
store = GcsStore("modelids", timeout_s={TIMEOUT_S}, retry_total_s={RETRY_TOTAL_S})
started = time.monotonic()
try:
    store.get_bytes("a")
except StorageUnavailable as error:
    print(time.monotonic() - started, error)
"""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "STORAGE_EMULATOR_HOST"},
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "credentials.json"),
        "GOOGLE_CLOUD_PROJECT": "none",
        "API_ENDPOINT_OVERRIDE": server.url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 3 * LIMIT_S, done.stdout
    assert server.proxy.count("POST /token") >= 1


def test_works_from_many_threads(patient: GcsStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        generations = [*pool.map(lambda number: patient.put_bytes(f"t/{number}", b"%d" % number), range(64))]
        objects = [*pool.map(lambda number: patient.get_bytes(f"t/{number}"), range(64))]
    assert objects == [(b"%d" % number, generations[number]) for number in range(64)]
