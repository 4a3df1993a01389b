"""A model as one zip: out and in again without a changed byte, and nothing from a hostile one."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import LORA_FILE, UNET_FILE, publish, write_full, write_lora

from enlight.dreambooth_api.manifest import FileEntry, Manifest, describe_files
from enlight.dreambooth_api.model_store import ModelStore
from enlight.main_api.models.archive import pack, unpack
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.object_store import open_store

LIMIT_BYTES = 1 << 20
SEED = 20261123

Entries = dict[str, bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_full(tmp_path / "model", seed=1, parts=("unet", "text_encoder"))


@pytest.fixture
def manifest(tmp_path: Path, folder: Path) -> Manifest:
    store = ModelStore(open_store((tmp_path / "bucket").as_uri(), timeout_s=5, retry_total_s=5))
    return publish(store, "0123bucket", folder, "full")


@pytest.fixture
def entries(manifest: Manifest, folder: Path) -> Entries:
    """What the exported zip holds."""
    with zipfile.ZipFile(io.BytesIO(b"".join(pack(manifest, folder, name="dog")))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(entries: Entries, path: Path, *, method: int = zipfile.ZIP_STORED) -> Path:
    """A zip as any tool makes it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def refuse(path: Path, target: Path, match: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
    """Expects a refusal, and nothing written anywhere but below ``target``."""
    target.mkdir()
    before = {each for each in target.parent.rglob("*") if target not in each.parents}
    with pytest.raises(InvalidField, match=match):
        unpack(path, target, limit_bytes=limit_bytes)
    assert {each for each in target.parent.rglob("*") if target not in each.parents} == before
    assert sum(each.stat().st_size for each in target.rglob("*") if each.is_file()) <= limit_bytes


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_what_went_out_comes_back(tmp_path: Path, manifest: Manifest, entries: Entries, method: int) -> None:
    # Given an exported zip, as it is or packed again by another tool, with entries for its folders
    path = zip_of({"unet/": b"", **entries, "text_encoder/": b""}, tmp_path / "model.zip", method=method)
    # When it is unpacked
    target = tmp_path / "out"
    target.mkdir()
    found = unpack(path, target, limit_bytes=LIMIT_BYTES)
    # Then every file is as it was, and so is what is known of it, but for the bucket's id
    assert describe_files(target) == manifest.files
    assert found == replace(manifest, model_id="dog")
    assert manifest.model_id.encode() not in entries["manifest.json"]


def test_a_lora_comes_back(tmp_path: Path) -> None:
    # Given an exported LoRA
    folder = write_lora(tmp_path / "lora", seed=1)
    store = ModelStore(open_store((tmp_path / "bucket").as_uri(), timeout_s=5, retry_total_s=5))
    path = tmp_path / "model.zip"
    path.write_bytes(b"".join(pack(publish(store, "m1", folder, "lora"), folder, name="dog")))
    # When it is unpacked
    target = tmp_path / "out"
    target.mkdir()
    found = unpack(path, target, limit_bytes=LIMIT_BYTES)
    # Then it is the same
    assert found.kind == "lora"
    assert (target / LORA_FILE).read_bytes() == (folder / LORA_FILE).read_bytes()


def test_equal_versions_give_equal_bytes(manifest: Manifest, folder: Path) -> None:
    # Given one version
    # When it is packed twice
    # Then the files are equal
    assert b"".join(pack(manifest, folder, name="dog")) == b"".join(pack(manifest, folder, name="dog"))


def test_packing_holds_a_piece_and_not_the_model(tmp_path: Path) -> None:
    # Given a model of 32 MiB
    data = random.Random(SEED).randbytes(32 << 20)
    folder = tmp_path / "large"
    (folder / "unet").mkdir(parents=True)
    (folder / UNET_FILE).write_bytes(data)
    store = ModelStore(open_store((tmp_path / "bucket").as_uri(), timeout_s=5, retry_total_s=5))
    manifest = publish(store, "m1", folder, "full")
    # When it is packed, and nobody keeps the pieces
    tracemalloc.start()
    largest_bytes = max(len(piece) for piece in pack(manifest, folder, name="dog"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Then no more than a few pieces were in memory
    assert largest_bytes < 2 << 20
    assert peak_bytes < 8 << 20


def without(name: str) -> Callable[[Entries], Entries]:
    return lambda entries: {key: data for key, data in entries.items() if key != name}


def with_entry(name: str, data: bytes) -> Callable[[Entries], Entries]:
    return lambda entries: {**entries, name: data}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (with_entry("../evil.safetensors", b"x"), "evil.* is only in the zip"),
        (with_entry("/etc/evil", b"x"), "is only in the zip"),
        (with_entry("unet/pytorch_model.bin", b"\x80\x04K\x01."), "is only in the zip"),
        (with_entry("unet/../../evil", b"x"), "is only in the zip"),
        (with_entry(UNET_FILE + "/", b""), "is only in the zip"),
        (without(UNET_FILE), "only in its manifest"),
        (without("manifest.json"), r"manifest\.json: is missing"),
        (with_entry("manifest.json", b"{}"), "not the manifest of an exported model"),
        (with_entry("manifest.json", b"[" * 100_000), "not the manifest of an exported model"),
        (with_entry("manifest.json", b" " * ((1 << 20) + 1)), r"manifest\.json: is larger than 1 MiB"),
        (with_entry("manifest.json", b"\xff"), "not the manifest of an exported model"),
        (with_entry("unet/config.json", b"{}"), "another size than its manifest says"),
    ],
)
def test_a_zip_with_other_files_is_refused(
    tmp_path: Path, entries: Entries, change: Callable[[Entries], Entries], match: str
) -> None:
    # Given an exported zip in which a file is missing, another, or one too many
    path = zip_of(change(entries), tmp_path / "model.zip")
    # When it is unpacked
    # Then it is refused, and nothing is written beside its folder
    refuse(path, tmp_path / "out", match)


@pytest.mark.parametrize(
    "files",
    [
        {UNET_FILE: b"x", "unet/diffusion_pytorch_model.bin": b"\x80\x04K\x01."},
        {UNET_FILE: b"x", "vae/diffusion_pytorch_model.safetensors": b"x"},
        {"text_encoder/model.safetensors": b"x"},
    ],
    ids=["a pickle", "another network", "no U-Net"],
)
def test_a_manifest_of_other_files_is_refused(tmp_path: Path, manifest: Manifest, files: Entries) -> None:
    # Given a zip whose manifest, well sealed, names files that no model has
    named = {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    sealed = replace(manifest, files=named).to_json()
    path = zip_of({"manifest.json": sealed, **files}, tmp_path / "model.zip")
    # When it is unpacked
    # Then it is refused
    refuse(path, tmp_path / "out", "files: ")


def test_a_configuration_of_any_size_is_not_taken(tmp_path: Path, manifest: Manifest, entries: Entries) -> None:
    # Given a zip with a configuration that is larger than any
    large = b" " * ((64 << 10) + 1)
    named = {**manifest.files, "unet/config.json": FileEntry(hashlib.sha256(large).hexdigest(), len(large))}
    sealed = replace(manifest, files=named).to_json()
    path = zip_of({**entries, "manifest.json": sealed, "unet/config.json": large}, tmp_path / "model.zip")
    # When it is unpacked
    # Then it is refused
    refuse(path, tmp_path / "out", r"unet/config\.json is larger than 65536 bytes")


def test_a_changed_byte_is_refused(tmp_path: Path, entries: Entries) -> None:
    # Given a zip, itself whole, with one bit of the weights changed
    weights = bytearray(entries[UNET_FILE])
    weights[-1] ^= 1
    path = zip_of({**entries, UNET_FILE: bytes(weights)}, tmp_path / "model.zip")
    # When it is unpacked
    # Then its hash shows it
    refuse(path, tmp_path / "out", "not the file that the manifest describes")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, entries: Entries) -> None:
    # Given a zip with two files of one name, which tools read differently
    path = zip_of(entries, tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(UNET_FILE, entries[UNET_FILE])
    # When it is unpacked
    # Then it is refused
    refuse(path, tmp_path / "out", "twice")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, entries: Entries, method: int) -> None:
    # Given a zip of a compression whose memory its maker chooses
    path = zip_of(entries, tmp_path / "model.zip", method=method)
    # When it is unpacked
    # Then it is refused
    refuse(path, tmp_path / "out", "compressed otherwise")


def test_an_encrypted_zip_is_refused(tmp_path: Path, entries: Entries) -> None:
    # Given a zip that says that a file is encrypted
    data = bytearray(zip_of(entries, tmp_path / "model.zip").read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "model.zip").write_bytes(data)
    # When it is unpacked
    # Then it is refused
    refuse(tmp_path / "model.zip", tmp_path / "out", "encrypted")


def test_a_bomb_writes_nothing(tmp_path: Path, manifest: Manifest, entries: Entries) -> None:
    # Given a small zip that grows to 64 MiB, with a manifest that says so
    zeros = bytes(64 << 20)
    grown = FileEntry(hashlib.sha256(zeros).hexdigest(), len(zeros))
    sealed = replace(manifest, files={UNET_FILE: grown}).to_json()
    path = zip_of({"manifest.json": sealed, UNET_FILE: zeros}, tmp_path / "m.zip", method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < LIMIT_BYTES
    # When it is unpacked with a limit of 1 MiB
    # Then it is refused before it grows
    refuse(path, tmp_path / "out", "larger than 1 MiB")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_bomb_that_lies_about_its_size_stays_small(tmp_path: Path, entries: Entries) -> None:
    # Given a zip whose table of contents says the right size, and whose file grows far beyond
    size_bytes = len(entries[UNET_FILE])
    zeros = bytes(64 << 20)
    path = zip_of({**entries, UNET_FILE: zeros}, tmp_path / "m.zip", method=zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(len(zeros).to_bytes(4, "little"), size_bytes.to_bytes(4, "little"))
    path.write_bytes(data)
    # When it is unpacked
    # Then it is refused, and no more than that size was written
    refuse(path, tmp_path / "out", "no whole zip|not the file", limit_bytes=LIMIT_BYTES)
    assert (tmp_path / "out" / UNET_FILE).stat().st_size <= size_bytes


def test_a_long_table_of_contents_is_not_read(tmp_path: Path, entries: Entries) -> None:
    # Given a zip with 40,000 empty files
    many = {f"{'x' * 50}{number}": b"" for number in range(40_000)}
    path = zip_of({**entries, **many}, tmp_path / "model.zip")
    # When it is unpacked
    # Then its table is too long to be looked at
    refuse(path, tmp_path / "out", "no whole zip file")


def test_damaged_zips_are_refused_or_right(tmp_path: Path, manifest: Manifest, entries: Entries) -> None:
    # Given zips that were cut or had bytes changed anywhere
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    good = zip_of(entries, tmp_path / "model.zip", method=zipfile.ZIP_DEFLATED).read_bytes()
    path, target = tmp_path / "bad.zip", tmp_path / "out"
    refused = 0
    for attempt in range(600):
        data = bytearray(good)
        if attempt % 4 == 0:
            del data[chance.randrange(len(data)) :]
        else:
            # Half of the changes go into the table of contents, which is most of what a reader believes.
            start = good.find(b"PK\x01\x02") if attempt % 2 else 0
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(start, len(data))] = chance.randrange(256)
        path.write_bytes(data)
        target.mkdir()
        # When one is unpacked
        try:
            found = unpack(path, target, limit_bytes=LIMIT_BYTES)
        except InvalidField:
            refused += 1
        else:
            # Then it was refused, or what came out is right
            assert found == replace(manifest, model_id="dog")
            assert describe_files(target) == manifest.files
        shutil.rmtree(target)
    assert refused > 300
