"""The photos in a ZIP: each one as it went in, and nothing of a hostile one."""

from __future__ import annotations

import io
import random
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Mapping

import pytest
from photo_zips import PHOTOS, zip_of
from training_gateway import photo

from enlight.main_api.adapters.openai.files.archive import (
    MAX_ENTRIES,
    ArchivedPhotos,
    ArchiveLimits,
    check_photos,
    photos_of,
)
from enlight.servicekit.errors import BrokenImage, ClientError, ImageTooLarge, InvalidField, UnsupportedImage

LIMITS = ArchiveLimits(photo_bytes=1 << 20, all_photos_bytes=2 << 20)
SEED = 20261127
TABLE_ENTRY = b"PK\x01\x02"


def check(packed: bytes, limits: ArchiveLimits = LIMITS) -> ArchivedPhotos:
    return check_photos(io.BytesIO(packed), limits)


def refuse(packed: bytes, match: str, *, error: type[ClientError] = InvalidField) -> None:
    with pytest.raises(error, match=match):
        check(packed)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_the_photos_come_out_as_they_went_in(method: int) -> None:
    # Given a ZIP as a file manager makes it, with folders, and with what it adds
    added = {"photos/._a.png": b"\0\5\x16\7", "photos/.DS_Store": b"Bud1", "__MACOSX/photos": b"\0\5\x16\7"}
    folders = {"photos/": b"", "photos/more/": b""}
    photos = {"photos/a.png": photo(1), "photos/more/a.png": photo(2), "b.PNG": photo(3)}
    packed = zip_of({**folders, **added, **photos}, method=method)
    # When it is read
    found = list(photos_of(io.BytesIO(packed), LIMITS))
    # Then the photos are there, and nothing else
    assert found == list(photos.items())
    assert check(packed) == ArchivedPhotos(3, sum(map(len, photos.values())))


@pytest.mark.parametrize(
    "name",
    [
        "Bildschirmfoto um 15.04\u202fUhr.png",
        "写真.png",
        "photos\\windows.png",
        "a\u202eb.png",
        "no extension",
        "...png",
    ],
)
def test_a_photo_may_have_any_name(name: str) -> None:
    assert check(zip_of({name: photo()})).count == 1


@pytest.mark.parametrize("encoding", ["shift_jis", "cp1251", "utf-8"])
def test_a_name_in_an_encoding_that_nobody_noted_is_no_problem(encoding: str) -> None:
    # Given a ZIP of a program that writes names as its system has them, and does not say so
    name = {"shift_jis": "写真", "cp1251": "фото", "utf-8": "foto ü"}[encoding].encode(encoding)
    packed = zip_of({"x" * len(name): photo()}).replace(b"x" * len(name), name)
    # When it is read, then the photo is there
    assert check(packed).count == 1


@pytest.mark.parametrize("packed", [b"", photo(), b"PK\x03\x04", zip_of(PHOTOS)[:-30]], ids=["0", "png", "head", "cut"])
def test_what_is_no_zip_is_refused(packed: bytes) -> None:
    refuse(packed, "file: is no whole zip file; send a ZIP of photos")


@pytest.mark.parametrize("count", [0, 51])
def test_fewer_or_more_photos_than_a_training_takes_are_refused(count: int) -> None:
    refuse(zip_of({f"{number}.png": photo() for number in range(count)}), f"1 to 50 photos; this one has {count}")


def test_fifty_photos_are_taken() -> None:
    assert check(zip_of({f"{number}.png": photo() for number in range(50)})).count == 50


@pytest.mark.parametrize(
    ("name", "data", "error", "match"),
    [
        ("notes.txt", b"a sks chair", UnsupportedImage, "'notes.txt' in the zip is not a PNG"),
        ("evil.svg", b"<svg/>", UnsupportedImage, "'evil.svg' in the zip"),
        ("half.png", photo()[:80], BrokenImage, "'half.png' in the zip is a broken PNG"),
        ("inner.zip", zip_of(PHOTOS), InvalidField, "'inner.zip' in the zip is a zip itself"),
        ("empty.png", b"", UnsupportedImage, "'empty.png' in the zip"),
    ],
)
def test_an_entry_that_is_no_photo_is_named(name: str, data: bytes, error: type[ClientError], match: str) -> None:
    refuse(zip_of({**PHOTOS, name: data}), match, error=error)


def test_a_photo_of_far_too_many_pixels_is_not_decoded() -> None:
    # Given a PNG whose header claims 900 megapixels
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = photo()[:12] + header + struct.pack(">I", zlib.crc32(header)) + photo()[33:]
    # When it comes in a ZIP, then its size is what is wrong
    refuse(zip_of({"bomb.png": bomb}), "'bomb.png' in the zip has far too many pixels", error=ImageTooLarge)


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "photos/../../a.png",
        "/etc/a.png",
        "..\\a.png",
        "\\\\host\\a.png",
        "C:\\a.png",
        "__MACOSX/../../a.png",
    ],
)
def test_a_path_out_of_the_zip_is_refused(name: str) -> None:
    refuse(zip_of({**PHOTOS, name: photo()}), "is a path out of the zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO], ids=["link", "device", "pipe"])
def test_what_is_no_file_is_refused(kind: int) -> None:
    # Given a ZIP with a link, which says where it goes instead of having something in it
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("link.png")
        entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    # When it is read, then it is refused
    refuse(packed.getvalue(), "'link.png' is a link or a device")


def test_an_encrypted_entry_is_refused() -> None:
    packed = bytearray(zip_of(PHOTOS))
    packed[packed.rfind(TABLE_ENTRY) + 8] |= 1
    refuse(bytes(packed), "'photo-2.png' is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_other_compressions_are_refused(method: int) -> None:
    refuse(zip_of(PHOTOS, method=method), "compressed otherwise than by deflate")


def test_a_zip_of_very_many_entries_is_refused() -> None:
    folders = {f"{number}/": b"" for number in range(MAX_ENTRIES)}
    assert check(zip_of({**dict(list(folders.items())[1:]), "a.png": photo()})).count == 1
    refuse(zip_of({**folders, "a.png": photo()}), "has 501 entries; at most 500")


def test_a_table_of_contents_of_megabytes_is_not_read() -> None:
    refuse(zip_of({f"{'x' * 50}{number}": b"" for number in range(40_000)}), "no whole zip")


def noise(size_bytes: int) -> bytes:
    """What does not shrink."""
    return random.Random(SEED).randbytes(size_bytes)


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"large.png": noise((1 << 20) + 1)}, "'large.png' is larger than 1 MiB"),
        ({f"{number}.png": noise(1 << 20) for number in range(3)}, "larger than 2 MiB together"),
        ({"zeros.png": bytes(1 << 20)}, "'zeros.png' grows to more than 200 times its size"),
    ],
    ids=["one", "all", "ratio"],
)
def test_a_zip_that_grows_too_much_is_refused_before_it_does(entries: Mapping[str, bytes], match: str) -> None:
    # Given a ZIP whose table of contents says that it grows beyond the limits
    packed = zip_of(entries, method=zipfile.ZIP_DEFLATED)
    # When it is looked at, then nothing of it was unpacked
    refuse(packed, match)


def test_a_bomb_that_lies_about_its_size_stays_small() -> None:
    # Given a ZIP that says that 64 MiB of zeros are 100,000 bytes
    zeros, said = 64 << 20, 100_000
    packed = zip_of({"bomb.png": bytes(zeros)}, method=zipfile.ZIP_DEFLATED)
    packed = packed.replace(zeros.to_bytes(4, "little"), said.to_bytes(4, "little"))
    # When it is read
    tracemalloc.start()
    refuse(packed, "no whole zip")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Then it did not grow
    assert peak_bytes < 8 << 20


def test_entries_that_share_bytes_are_refused() -> None:
    # Given a ZIP with two names for the same bytes: with fifty of them each byte would count fifty times
    packed = bytearray(zip_of({"a.png": photo(), "b.png": photo()}))
    first, second = packed.find(TABLE_ENTRY), packed.rfind(TABLE_ENTRY)
    packed[second + 42 : second + 46] = packed[first + 42 : first + 46]
    # When it is read, then that is seen
    refuse(bytes(packed), "'a.png' overlaps what follows it")


def test_an_entry_that_reaches_into_the_table_of_contents_is_refused() -> None:
    packed = bytearray(zip_of({"a.png": photo()}))
    size_at = packed.rfind(TABLE_ENTRY) + 20
    packed[size_at : size_at + 4] = (len(photo()) + 1000).to_bytes(4, "little")
    refuse(bytes(packed), "'a.png' overlaps what follows it")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_damaged_zips_are_refused_or_right(method: int) -> None:
    # Given ZIPs that were cut or had bytes changed anywhere
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    good = zip_of(PHOTOS, method=method)
    refused = 0
    for attempt in range(400):
        packed = bytearray(good)
        if attempt % 4 == 0:
            del packed[chance.randrange(len(packed)) :]
        else:
            start = good.find(TABLE_ENTRY) if attempt % 2 else 0
            for _ in range(chance.randint(1, 3)):
                packed[chance.randrange(start, len(packed))] = chance.randrange(256)
        # When one is read
        try:
            photos = [data for _, data in photos_of(io.BytesIO(packed), LIMITS)]
        except ClientError:
            refused += 1
        else:
            # Then it was refused, or all that came out is right: a photo whose name was hit may be left out
            assert set(photos) <= set(PHOTOS.values())
    assert refused > 150
