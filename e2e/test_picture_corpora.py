"""Collections of pictures that others made, many of them broken on purpose: first the decoder meets them, then every
route of the three services that takes a picture.

The services' networks are tiny ones with the inputs and outputs of the real ones: what is tested is everything around
them. `make test` sends every broken file to every route, and good files of every kind; `make test-long` the other good
ones as well.
"""

from __future__ import annotations

import functools
import io
import json
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import decoding_sweep
import numpy as np
import pytest
from picture_corpora import CorpusFile, CorpusUnavailableError, pillow_images, png_crashers, pngsuite
from picture_services import (
    ROUTES,
    PictureRoute,
    PictureService,
    assert_refused,
    route_name,
    running_picture_services,
)
from PIL import Image, ImageOps
from png_reference import read_png

from enlight.servicekit.errors import BrokenImage, ServiceError, UnsupportedImage
from enlight.servicekit.images import decode_image, decode_picture

MAX_CPU_S = 2.0
MAX_PEAK_MIB = 400
"""The largest picture of the collections has 16 megapixels and its file 13 MB; both decoders keep at most two copies of
four bytes a pixel and the file."""

REFUSED = {
    "pillow/apng/chunk_no_fctl.png": "400 broken_image",
    "pillow/apng/syntax_num_frames_zero.png": "400 broken_image",
    "pillow/broken.png": "400 broken_image",
    "pillow/broken_data_stream.png": "400 broken_image",
    "pillow/png_decompression_dos.png": "400 broken_image",
    "pillow/truncated_end_chunk.png": "400 broken_image",
    "pillow/truncated_image.png": "400 broken_image",
    "pillow/truncated_jpeg.jpg": "400 broken_image",
    "pillow/ultrahdr.jpg": "400 broken_image",  # only the first 48 kB of one
    "pillow/unknown_compression_method.png": "400 broken_image",
    "pngsuite/xc1n0g08.png": "400 broken_image",
    "pngsuite/xc9n2c08.png": "400 broken_image",
    "pngsuite/xcsn0g01.png": "400 broken_image",
    "pngsuite/xd0n2c08.png": "400 broken_image",
    "pngsuite/xd3n2c08.png": "400 broken_image",
    "pngsuite/xd9n2c08.png": "400 broken_image",
    "pngsuite/xdtn0g01.png": "400 broken_image",
    "pngsuite/xhdn0g08.png": "400 broken_image",
    "crashers/bad_iCCP.png": "400 broken_image",
    "crashers/badadler.png": "400 broken_image",
    "crashers/badcrc.png": "400 broken_image",
    "crashers/empty_ancillary_chunks.png": "400 broken_image",
    "crashers/invalid_gray_alpha_sbit.png": "400 broken_image",
    "crashers/missing_plte.png": "400 broken_image",
    "crashers/zero_gama.png": "413 image_too_large",
    "crashers/zero_width.png": "400 broken_image",
}
"""Files that begin as PNG, JPEG, WebP or HEIC and are refused all the same; besides crashers/huge_*_chunk."""


def files_of(collection: str) -> list[CorpusFile]:
    try:
        return {"pillow": pillow_images, "pngsuite": pngsuite, "crashers": png_crashers}[collection]()
    except CorpusUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def swept() -> decoding_sweep.Sweep:
    """What a process of its own makes of every file."""
    for collection in ("pillow", "pngsuite", "crashers"):
        files_of(collection)
    done = subprocess.run(
        [sys.executable, str(Path(decoding_sweep.__file__))], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: decoding_sweep.Sweep = json.loads(done.stdout)
    return answer


def begins_as_a_picture_that_is_read(data: bytes) -> bool:
    return (
        data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or data[4:12] == b"ftypheic"
    )


def test_the_collections_are_there_in_full() -> None:
    names = [file.name for file in files_of("pngsuite") if file.name.endswith(".png")]
    assert len([name for name in names if name.startswith("x")]) == 14
    assert len(names) == 175
    assert len(files_of("pillow")) == 1056
    assert len(files_of("crashers")) == 28


def test_whatever_a_file_holds_it_is_read_or_refused(swept: decoding_sweep.Sweep) -> None:
    bad = [decoding for decoding in swept["decodings"] if not decoding["outcome"].startswith(("ok", "4"))]
    assert bad == []


def test_each_file_is_told_apart_rightly_and_by_both_decoders(swept: decoding_sweep.Sweep) -> None:
    files = decoding_sweep.every_file()
    wrong = {}
    for decoding in swept["decodings"]:
        name = decoding["file"]
        expected = "ok" if begins_as_a_picture_that_is_read(files[name].data) else "415 unsupported_image"
        if name.startswith("crashers/huge_") and "IDAT" not in name:  # that one holds all of its one pixel
            expected = "400 broken_image"
        if decoding["outcome"] != REFUSED.get(name, expected):
            wrong[name] = decoding["outcome"]
    assert wrong == {}
    assert set(files) >= set(REFUSED)


def test_no_file_takes_long(swept: decoding_sweep.Sweep) -> None:
    slow = [decoding for decoding in swept["decodings"] if decoding["cpu_s"] > MAX_CPU_S]
    assert slow == []


def test_no_file_takes_much_memory_and_none_stays(swept: decoding_sweep.Sweep) -> None:
    assert swept["peak_mib"] < MAX_PEAK_MIB
    assert swept["growth_mib"] < 30


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what is odd and shows it all the same
def test_good_pictures_of_pillow_look_as_pillow_shows_them() -> None:
    compared = 0
    for file in files_of("pillow"):
        if not begins_as_a_picture_that_is_read(file.data) or f"pillow/{file.name}" in REFUSED:
            continue
        ours = decode_image(file.data, "picture")
        with Image.open(io.BytesIO(file.data)) as opened:
            shown = opened if opened.format == "HEIF" else ImageOps.exif_transpose(opened)
            assert ours.size == shown.size, file.name
            # The others differ as they should: laid on white, converted to sRGB, 16 bits scaled.
            if shown.mode in ("RGB", "L") and not shown.has_transparency_data and "icc_profile" not in opened.info:
                assert np.array_equal(np.asarray(ours), np.asarray(shown.convert("RGB"))), file.name
                compared += 1
    assert compared > 100


def pngsuite_names() -> list[str]:
    """Named without the collection, which may not be there when tests are collected: sizes of 1 to 9 and 32 to 40
    pixels, each colour type and depth, plain and interlaced, and what else the suite varies."""
    types = ["0g01", "0g02", "0g04", "0g08", "0g16", "2c08", "2c16"]
    types += ["3p01", "3p02", "3p04", "3p08", "4a08", "4a16", "6a08", "6a16"]
    return [f"bas{interlaced}{kind}" for interlaced in "ni" for kind in types]


@pytest.mark.parametrize("name", [*pngsuite_names(), "the rest"])
def test_good_files_of_pngsuite_are_exact(name: str) -> None:
    good = {
        file.name.removesuffix(".png"): file.data
        for file in files_of("pngsuite")
        if file.name.endswith(".png") and not file.name.startswith("x")
    }
    assert set(pngsuite_names()) < set(good)
    names = [name] if name in good else sorted(set(good) - set(pngsuite_names()))
    assert [each for each in names if not is_exact(good[each])] == []


def is_exact(data: bytes) -> bool:
    """Whether both decoders agree with the reference: in 16 bits to the last, in 8 to within a level."""
    expected = read_png(data)
    deep = decode_picture(data, "picture", keep_16_bit=True)
    flat = decode_picture(data, "picture")
    if deep.is_16_bit != (expected.top == 65535) or flat.is_16_bit:
        return False
    if (deep.alpha is None, flat.alpha is None) != (expected.alpha is None,) * 2:
        return False
    pairs = [(expected.colour, deep.colour, flat.colour)]
    if expected.alpha is not None:
        assert deep.alpha is not None
        assert flat.alpha is not None
        pairs.append((expected.alpha, deep.alpha, flat.alpha))
    to_8_bit = 255 / expected.top
    return all(
        np.array_equal(wanted, exact) and np.abs(wanted * to_8_bit - close).max() < 1 for wanted, exact, close in pairs
    )


@pytest.mark.parametrize("start", ["x", "xs", "xc", "xd"])
def test_broken_files_of_pngsuite_are_refused(start: str) -> None:
    broken = [file for file in files_of("pngsuite") if file.name.startswith(start)]
    assert broken
    for file in broken:
        for decode in (decode_image, decode_picture):
            with pytest.raises((BrokenImage, ServiceError, UnsupportedImage), match="picture"):
                decode(file.data, "picture")


def png_with_transparent_colour(depth: int, samples: list[int], *, of: int, transparent: int) -> bytes:
    """One row of grey (``of`` = 1) or grey-looking RGB (``of`` = 3) samples."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    bits = "".join(f"{sample:0{depth}b}" * of for sample in samples)
    bits += "0" * (-len(bits) % 8)
    row = int("1" + bits, 2).to_bytes(len(bits) // 8 + 1)[1:]
    header = struct.pack(">IIBBBBB", len(samples), 1, depth, 0 if of == 1 else 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tRNS", struct.pack(">H", transparent) * of)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("of", "depth", "samples"),
    [
        (1, 1, [0, 1, 1, 0, 1]),
        (1, 2, [0, 1, 2, 3, 1]),
        (1, 4, [0, 1, 5, 10, 15]),
        (1, 8, [0, 1, 15, 200, 255]),
        (1, 16, [0, 1, 0x1234, 0x12FF, 0x3412, 0x3434, 0xFFFF]),
        (3, 8, [0, 1, 15, 200, 255]),
        (3, 16, [0, 1, 0x1234, 0x12FF, 0x3412, 0x3434, 0xFFFF]),
    ],
)
def test_the_transparent_colour_is_the_one_that_the_file_names(of: int, depth: int, samples: list[int]) -> None:
    # PngSuite has few of these, and those of 16 bits with both bytes the same.
    wrong = [
        hex(transparent)
        for transparent in set(samples)
        if not is_exact(png_with_transparent_colour(depth, samples, of=of, transparent=transparent))
    ]
    assert wrong == []


# ---------------------------------------------------------------------------------------------------------------------
# Over HTTP


CLIENTS = 8
MAX_ANSWER_S = 60.0
"""Of one answer while seven other clients ask as well, on whatever machine this runs."""
GROWTH_MIB = 150.0
LARGEST_PICTURE_MIB = 150.0
"""Ten megapixels as three floats each, and once more as they come."""


@dataclass(frozen=True)
class Expected:
    """What a service has to make of a file."""

    name: str
    data: bytes
    refusal: tuple[int, str] | None
    size: tuple[int, int] = (0, 0)
    kind: tuple[object, ...] = ()
    """Of a good picture: format, transparency and shape, then what else a decoder could stumble over."""


@functools.cache
def expected_files() -> list[Expected]:
    """Every file of every collection, with the answer that the tests above found to be right."""
    for collection in ("pillow", "pngsuite", "crashers"):
        files_of(collection)
    with warnings.catch_warnings(action="ignore"):  # pytest makes errors of Pillow's, services do not
        return [_expected(name, file.data) for name, file in decoding_sweep.every_file().items()]


def _expected(name: str, data: bytes) -> Expected:
    try:
        picture = decode_picture(data, "picture", keep_16_bit=True)
    except ServiceError as error:
        return Expected(name, data, (error.status, error.code))
    width, height = picture.width_px, picture.height_px
    with Image.open(io.BytesIO(data)) as opened:
        looks = (opened.mode, opened.info.get("interlace"), getattr(opened, "is_animated", False))
        kind = (opened.format, picture.alpha is not None, shape(width, height), *looks, "icc_profile" in opened.info)
    return Expected(name, data, None, (width, height), kind)


def shape(width_px: int, height_px: int) -> str:
    long_px, short_px = max(width_px, height_px), min(width_px, height_px)
    return "tiny" if long_px < 10 else "long" if long_px > 5 * short_px else "usual"


def refused_files() -> list[Expected]:
    return [file for file in expected_files() if file.refusal is not None]


def good_files() -> list[Expected]:
    return [file for file in expected_files() if file.refusal is None]


def one_of_each_kind(*, coarse: bool = False) -> list[Expected]:
    """The smallest file of each kind, and the picture with the most pixels; ``coarse`` kinds differ in format,
    transparency or shape."""
    smallest: dict[tuple[object, ...], Expected] = {}
    files = sorted(good_files(), key=lambda file: file.size[0] * file.size[1])
    for file in files:
        smallest.setdefault(file.kind[:3] if coarse else file.kind, file)
    return [*smallest.values(), files[-1]]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PictureService]]:
    """The three services. When all tests are done, none of them has lost its worker."""
    files_of("pillow")
    files_of("pngsuite")
    with running_picture_services(tmp_path_factory.mktemp("services")) as running:
        yield running
        for service in running.values():
            service.assert_unharmed()


def answers(service: PictureService, route: PictureRoute, files: list[Expected]) -> dict[str, str]:
    """Sends the files, several at a time; what was wrong with an answer, by the file's name."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        problems = list(clients.map(lambda file: problem(service, route, file), files))
    return {file.name: found for file, found in zip(files, problems, strict=True) if found}


def problem(service: PictureService, route: PictureRoute, file: Expected) -> str:
    started_s = time.monotonic()
    response = route.post(service, file.data, timeout_s=2 * MAX_ANSWER_S)
    answer_s = time.monotonic() - started_s
    if answer_s > MAX_ANSWER_S:
        return f"took {answer_s:.1f} s"
    if file.refusal is not None:
        try:
            assert_refused(service, response, *file.refusal, route.field_named)
        except AssertionError as error:
            return str(error)
        return ""
    if response.status_code != 200:
        return response.text[:500]
    size = route.picture(response).size
    wanted = route.size(*file.size)
    return "" if max(abs(a - b) for a, b in zip(size, wanted, strict=True)) <= 1 else f"{size} instead of {wanted}"


@pytest.mark.parametrize("route", ROUTES, ids=route_name)
def test_every_broken_file_is_refused_in_words(services: dict[str, PictureService], route: PictureRoute) -> None:
    service = services[route.service]
    assert answers(service, route, refused_files()[:40]) == {}
    before_mib = service.memory_mib()
    assert answers(service, route, refused_files()) == {}
    assert service.memory_mib() - before_mib < GROWTH_MIB
    service.assert_unharmed()


@pytest.mark.parametrize("route", ROUTES, ids=route_name)
def test_good_files_of_every_kind_come_back(services: dict[str, PictureService], route: PictureRoute) -> None:
    """All kinds, where a picture takes a fraction of a second. All three services decode with the same function, and
    both routes of an upscaler hand the bytes to the same worker: the upsampler, which takes two seconds even on a tiny
    network, gets the coarse kinds, and the second route of both every fourth."""
    service = services[route.service]
    files = one_of_each_kind(coarse=route.service == "upsampler")
    is_second = route.body is None and route.long_side_px is not None
    assert answers(service, route, files[:: 4 if is_second else 1]) == {}
    service.assert_unharmed()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("route", ROUTES, ids=route_name)
def test_every_good_file_comes_back(services: dict[str, PictureService], route: PictureRoute) -> None:
    """Every eighth of them at the upsampler, for the time that it takes."""
    service = services[route.service]
    files = good_files()[:: 8 if route.service == "upsampler" else 1]
    largest = one_of_each_kind()[-1]
    # What the largest pictures take is kept by the allocator for the next ones: after a few it grows no more.
    assert answers(service, route, [*files[::8], *[largest] * 4]) == {}
    before_mib = service.memory_mib()
    assert answers(service, route, files) == {}
    assert service.memory_mib() - before_mib < GROWTH_MIB + LARGEST_PICTURE_MIB
    service.assert_unharmed()
