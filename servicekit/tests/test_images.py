"""Pictures of every kind that people send, and of those that attackers send."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from enlight.servicekit.errors import BrokenImage, ClientError, ImageTooLarge, InvalidRequest, UnsupportedImage
from enlight.servicekit.images import (
    MAX_JPEG_SCANS,
    decode_base64,
    decode_image,
    decode_picture,
    encode_jpeg,
    encode_jpeg_within,
    encode_png,
    encode_webp,
    to_base64,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(mode: str = "RGB") -> Image.Image:
    """48 x 32: red, green over blue, white."""
    picture = Image.new("RGB", (48, 32), RED)
    picture.paste(GREEN, (24, 0, 48, 16))
    picture.paste(BLUE, (0, 16, 24, 32))
    picture.paste(WHITE, (24, 16, 48, 32))
    return picture.convert(mode)


def saved(picture: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """Colours near the four corners: top left, top right, bottom left, bottom right."""
    width, height = picture.size
    points = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)]
    return [tuple(picture.getpixel(point)) for point in points]  # type: ignore[arg-type]


def assert_colours(picture: Image.Image, expected: Sequence[tuple[int, ...]], tolerance: int = 0) -> None:
    found = corners(picture)
    assert np.abs(np.array(found) - np.array(expected)).max() <= tolerance, f"{found} is not {expected}"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + png_chunk(b"IEND", b"")


def heic(picture: Image.Image, **options: Any) -> bytes:
    pillow_heif.register_heif_opener()
    return saved(picture, "HEIF", **options)


class TestAccepted:
    @pytest.mark.parametrize(
        ("data", "tolerance"),
        [
            pytest.param(lambda: saved(quarters(), "PNG"), 0, id="png"),
            pytest.param(lambda: saved(quarters(), "PNG", interlace=1), 0, id="png-interlaced"),
            pytest.param(lambda: saved(quarters("P"), "PNG"), 0, id="png-palette"),
            pytest.param(lambda: saved(quarters("RGBA"), "PNG"), 0, id="png-rgba-opaque"),
            pytest.param(lambda: saved(quarters(), "JPEG", quality=95), 8, id="jpeg"),
            pytest.param(lambda: saved(quarters(), "JPEG", quality=95, progressive=True), 8, id="jpeg-progressive"),
            pytest.param(lambda: saved(quarters("CMYK"), "JPEG", quality=95), 8, id="jpeg-cmyk"),
            pytest.param(lambda: saved(quarters(), "WEBP", lossless=True), 0, id="webp-lossless"),
            pytest.param(lambda: saved(quarters(), "WEBP", quality=95), 12, id="webp-lossy"),
            pytest.param(lambda: heic(quarters(), quality=95), 12, id="heic"),
        ],
    )
    def test_a_format(self, data: Callable[[], bytes], tolerance: int) -> None:
        picture = decode_image(data(), "image")
        assert (picture.mode, picture.size, type(picture)) == ("RGB", (48, 32), Image.Image)
        assert_colours(picture, [RED, GREEN, BLUE, WHITE], tolerance)

    @pytest.mark.parametrize("mode", ["L", "1", "LA"])
    def test_grey_and_black_and_white(self, mode: str) -> None:
        picture = decode_image(saved(quarters("L").convert(mode), "PNG"), "image")
        assert picture.mode == "RGB"
        red, _, _, white = corners(picture)
        assert white == WHITE
        if mode != "1":
            assert red == (76, 76, 76)

    def test_grey_of_16_bits_is_scaled(self) -> None:
        values = np.array([[0, 255, 32768, 65535]], np.uint16)
        picture = decode_image(saved(Image.fromarray(values), "PNG"), "image")
        assert np.asarray(picture)[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_grey_of_16_bits_with_a_transparent_value(self) -> None:
        rows = b"\0" + struct.pack(">2H", 1000, 30000)
        data = raw_png(2, 1, 16, 0, rows, png_chunk(b"tRNS", struct.pack(">H", 1000)))
        assert np.asarray(decode_image(data, "image"))[0, :, 0].tolist() == [255, 117]

    def test_colour_of_16_bits(self) -> None:
        rows = b"\0" + struct.pack(">6H", 65535, 32768, 0, 256, 512, 65535)
        picture = decode_image(raw_png(2, 1, 16, 2, rows), "image")
        assert np.abs(np.asarray(picture, int)[0] - [[255, 128, 0], [1, 2, 255]]).max() <= 1

    def test_colour_of_16_bits_with_alpha(self) -> None:
        rows = b"\0" + struct.pack(">8H", 65535, 0, 0, 65535, 65535, 0, 0, 0)
        picture = decode_image(raw_png(2, 1, 16, 6, rows), "image")
        assert np.asarray(picture)[0].tolist() == [list(RED), list(WHITE)]

    def test_transparency_is_laid_on_white(self) -> None:
        # Given red pixels that are opaque, half and fully transparent
        pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 128], [255, 0, 0, 0]]], np.uint8)
        for data in (saved(Image.fromarray(pixels), "PNG"), saved(Image.fromarray(pixels), "WEBP", lossless=True)):
            seen = np.asarray(decode_image(data, "image"))[0].tolist()
            assert seen == [list(RED), [255, 127, 127], list(WHITE)]

    def test_grey_with_alpha_is_laid_on_white(self) -> None:
        picture = Image.merge("LA", [Image.new("L", (2, 1), 10), Image.frombytes("L", (2, 1), b"\xff\x00")])
        assert np.asarray(decode_image(saved(picture, "PNG"), "image"))[0, :, 0].tolist() == [10, 255]

    def test_a_palette_with_a_transparent_colour_is_laid_on_white(self) -> None:
        picture = Image.new("P", (2, 1))
        picture.putpalette([255, 0, 0, 0, 255, 0])
        picture.putpixel((1, 0), 1)
        decoded = decode_image(saved(picture, "PNG", transparency=0), "image")
        assert np.asarray(decoded)[0].tolist() == [list(WHITE), list(GREEN)]

    def test_a_transparent_colour_of_rgb_is_laid_on_white(self) -> None:
        picture = Image.new("RGB", (2, 1), RED)
        picture.putpixel((1, 0), BLUE)
        decoded = decode_image(saved(picture, "PNG", transparency=RED), "image")
        assert np.asarray(decoded)[0].tolist() == [list(WHITE), list(BLUE)]

    @pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
    @pytest.mark.parametrize(
        ("orientation", "expected"),
        [
            (1, [RED, GREEN, BLUE, WHITE]),
            (2, [GREEN, RED, WHITE, BLUE]),
            (3, [WHITE, BLUE, GREEN, RED]),
            (4, [BLUE, WHITE, RED, GREEN]),
            (5, [RED, BLUE, GREEN, WHITE]),
            (6, [BLUE, RED, WHITE, GREEN]),
            (7, [WHITE, GREEN, BLUE, RED]),
            (8, [GREEN, WHITE, RED, BLUE]),
            (9, [RED, GREEN, BLUE, WHITE]),
        ],
    )
    def test_exif_turns_it_upright(self, name: str, orientation: int, expected: list[tuple[int, ...]]) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = decode_image(saved(quarters(), name, exif=exif, quality=95), "image")
        assert picture.size == ((32, 48) if orientation in (5, 6, 7, 8) else (48, 32))
        assert_colours(picture, expected, tolerance=12)

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_heic_is_turned_once(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = heic(quarters(), exif=exif.tobytes(), quality=95)
        assert (b"irot" in data) == (orientation != 1)
        picture = decode_image(data, "image")
        expected = {
            1: [RED, GREEN, BLUE, WHITE],
            3: [WHITE, BLUE, GREEN, RED],
            6: [BLUE, RED, WHITE, GREEN],
            8: [GREEN, WHITE, RED, BLUE],
        }
        assert_colours(picture, expected[orientation], tolerance=12)

    def test_heic_is_not_turned_by_exif_alone(self) -> None:
        """The format has its own property for that; its EXIF is a copy for the curious."""
        exif = Image.Exif()
        exif[0x0112] = 6
        data = heic(quarters(), exif=exif, quality=95)
        assert b"irot" not in data
        assert_colours(decode_image(data, "image"), [RED, GREEN, BLUE, WHITE], tolerance=12)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0garbage!", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
    )
    def test_exif_that_cannot_be_read_is_no_reason_to_refuse_it(self, name: str, exif: bytes) -> None:
        picture = decode_image(saved(quarters(), name, quality=95, exif=exif), "image")
        assert_colours(picture, [RED, GREEN, BLUE, WHITE], tolerance=12)

    def test_an_icc_profile_is_applied(self) -> None:
        # Given a picture whose profile calls green what sRGB calls red
        profile = swapped_primaries_profile()

        # When it is decoded, then its red is what the profile calls red
        data = saved(Image.new("RGB", (8, 8), RED), "PNG", icc_profile=profile)
        red, green, blue = np.asarray(decode_image(data, "image"))[0, 0]
        assert green > 200
        assert red < 60
        assert blue < 60

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P"])
    @pytest.mark.parametrize(
        "profile", [b"not a profile", b"", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
    )
    def test_a_broken_or_foreign_profile_is_ignored(self, mode: str, profile: bytes) -> None:
        name = "JPEG" if mode == "CMYK" else "PNG"
        picture = decode_image(saved(quarters(mode), name, icc_profile=profile), "image")
        assert picture.mode == "RGB"
        assert_colours(
            picture,
            [tuple(np.asarray(quarters(mode).convert("RGB"))[y, x]) for y, x in [(4, 4), (4, 43), (27, 4), (27, 43)]],
            tolerance=8,
        )

    def test_a_cmyk_picture_of_adobe_is_not_inverted(self) -> None:
        data = saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")
        assert b"Adobe" in data
        assert decode_image(data, "image").getpixel((8, 8)) == WHITE

    @pytest.mark.parametrize("name", ["WEBP", "PNG"])
    def test_the_first_frame_of_an_animation(self, name: str) -> None:
        frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
        data = saved(frames[0], name, save_all=True, append_images=frames[1:], duration=100, lossless=True)
        assert decode_image(data, "image").getpixel((8, 8)) == RED

    def test_the_first_picture_of_an_mpo(self) -> None:
        data = saved(Image.new("RGB", (16, 16), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
        assert decode_image(data, "image").getpixel((8, 8)) == (254, 0, 0)

    @pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "HEIF"])
    def test_nothing_but_pixels_comes_out(self, name: str) -> None:
        # Given a picture that says where it was taken
        exif = Image.Exif()
        exif[0x010F] = "camera"
        exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
        pillow_heif.register_heif_opener()
        text = PngInfo()
        text.add_text("Comment", "secret")
        options = {"pnginfo": text} if name == "PNG" else {}
        data = saved(quarters(), name, exif=exif, **options)
        assert b"camera" in data

        # When it is decoded and stored again, then nothing of that is left
        picture = decode_image(data, "image")
        assert picture.info == {}
        assert dict(picture.getexif()) == {}
        again = saved(picture, "PNG") + saved(picture, "JPEG")
        assert b"camera" not in again
        assert b"secret" not in again

    def test_the_largest_that_is_accepted(self) -> None:
        assert decode_image(saved(Image.new("1", (8192, 3051)), "PNG"), "image").size == (8192, 3051)


class TestRefused:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(saved(quarters(), "GIF"), id="gif"),
            pytest.param(
                saved(quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (48, 32))]), id="gif-animated"
            ),
            pytest.param(saved(quarters(), "BMP"), id="bmp"),
            pytest.param(saved(quarters(), "TIFF"), id="tiff"),
            pytest.param(saved(quarters(), "EPS"), id="eps"),
            pytest.param(saved(quarters(), "PDF"), id="pdf"),
            pytest.param(saved(quarters(), "PPM"), id="ppm"),
            pytest.param(saved(quarters(), "ICO"), id="ico"),
            pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', id="svg"),
            pytest.param(b"8BPS\0\1", id="psd"),
            pytest.param(b"SIMPLE  =                    T", id="fits"),
            pytest.param(b"just text", id="text"),
            pytest.param(b"", id="nothing"),
            pytest.param(b"\0" * 100, id="zeros"),
            pytest.param(b"RIFF\0\0\0\0WAVE", id="wav"),
            pytest.param(b"\0\0\0\x18ftypmp42", id="mp4"),
        ],
    )
    def test_another_format(self, data: bytes) -> None:
        with pytest.raises(UnsupportedImage, match=r"IMAGE_LIST\[2\]") as caught:
            decode_image(data, "IMAGE_LIST[2]")
        assert caught.value.details == {"field": "IMAGE_LIST[2]"}

    @pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "HEIF"])
    @pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.6, 0.9])
    def test_a_truncated_file(self, name: str, part: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        pillow_heif.register_heif_opener()
        data = saved(Image.fromarray(noise), name)
        with pytest.raises(BrokenImage, match="image is a broken"):
            decode_image(data[: max(12, int(len(data) * part))], "image")

    def test_another_format_behind_a_brand_that_several_use(self) -> None:
        """``mif1`` may hold AVIF: Pillow would open it with a decoder that nobody asked for."""
        avif = saved(quarters(), "AVIF")
        disguised = avif[:8] + b"mif1" + avif[12:]
        with Image.open(io.BytesIO(disguised)) as picture:
            assert picture.format == "AVIF"
        with pytest.raises(ClientError):
            decode_image(disguised, "image")

    def test_a_flipped_bit_in_a_png(self) -> None:
        data = bytearray(saved(quarters(), "PNG"))
        data[50] ^= 1
        with pytest.raises(BrokenImage):
            decode_image(bytes(data), "image")

    def test_a_format_within_the_wrong_coat(self) -> None:
        with pytest.raises(BrokenImage):
            decode_image(b"\x89PNG\r\n\x1a\n" + saved(quarters(), "GIF"), "image")

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(lambda: raw_png(20_000, 20_000, 1, 0, b"\0" * 2501 * 20_000), id="400-megapixels"),
            pytest.param(lambda: raw_png(9_380, 9_380, 1, 0, b"\0" * 1174 * 9_380), id="88-megapixels"),
            pytest.param(lambda: raw_png(9_500, 9_500, 1, 0, b"\0" * 1188 * 9_500), id="90-megapixels"),
            pytest.param(lambda: raw_png(2**31 - 1, 2**31 - 1, 8, 2, b""), id="largest-header"),
            pytest.param(lambda: raw_png(5_001, 5_000, 1, 0, b"\0" * 627 * 5_000), id="a-little-too-many-pixels"),
            pytest.param(lambda: raw_png(8_193, 1, 1, 0, b"\0" * 1026), id="too-wide"),
            pytest.param(lambda: saved(Image.new("L", (1, 8_193)), "JPEG"), id="too-high"),
            pytest.param(lambda: saved(Image.new("RGB", (8_193, 4)), "WEBP"), id="webp"),
            pytest.param(lambda: heic(Image.new("RGB", (8_200, 64))), id="heic"),
        ],
    )
    def test_a_bomb_is_refused_by_its_header(self, data: Callable[[], bytes]) -> None:
        bomb = data()
        started_s = time.process_time()
        with pytest.raises(ImageTooLarge, match="25 megapixels and 8192 pixels"):
            decode_image(bomb, "image")
        assert time.process_time() - started_s < 0.5

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_a_bomb_that_pillow_only_warns_of(self) -> None:
        with pytest.raises(ImageTooLarge, match="9500 x 9500 pixels"):
            decode_image(raw_png(9_500, 9_500, 1, 0, b"\0" * 1188 * 9_500), "image")

    def test_the_limit_is_the_callers(self) -> None:
        with pytest.raises(ImageTooLarge, match=r"48 x 32 pixels; the limit is 0\.001 megapixels"):
            decode_image(saved(quarters(), "PNG"), "image", max_pixels=1000)
        with pytest.raises(ImageTooLarge):
            decode_image(saved(quarters(), "PNG"), "image", max_side_px=47)

    @pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
    def test_a_text_that_unpacks_to_200_megabytes(self, kind: bytes) -> None:
        packed = zlib.compress(b"\0" * 200_000_000)
        body = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind] + packed
        bomb = raw_png(1, 1, 8, 2, b"\0\0\0\0", png_chunk(kind, body))
        started_s = time.process_time()
        with pytest.raises(BrokenImage):
            decode_image(bomb, "image")
        assert time.process_time() - started_s < 1.0

    def test_a_jpeg_of_endless_scans(self) -> None:
        # Given a progressive picture whose last scan is repeated
        data = saved(Image.new("RGB", (2048, 2048)), "JPEG", progressive=True)
        last_scan = data[data.rindex(b"\xff\xda") : -2]
        bomb = data[:-2] + last_scan * MAX_JPEG_SCANS + b"\xff\xd9"

        # Then it is refused before anything is decoded
        started_s = time.process_time()
        with pytest.raises(BrokenImage):
            decode_image(bomb, "image")
        assert time.process_time() - started_s < 0.2

    @pytest.mark.parametrize("part", [png_chunk(b"prVt", b""), png_chunk(b"tEXt", b"a\0"), png_chunk(b"IDAT", b"")])
    def test_a_png_of_endless_chunks(self, part: bytes) -> None:
        bomb = raw_png(1, 1, 8, 2, b"\0\0\0\0", part * (20_000_000 // len(part)))
        started_s = time.process_time()
        with pytest.raises(BrokenImage):
            decode_image(bomb, "image")
        assert time.process_time() - started_s < 1.0

    @pytest.mark.parametrize("part", [b"\xff\xfe\0\2", b"\xff", b"\0", b"\xff\xe1\0\2"])
    def test_a_jpeg_of_endless_markers(self, part: bytes) -> None:
        data = saved(quarters(), "JPEG")
        bomb = data[:2] + part * (20_000_000 // len(part)) + data[2:]
        started_s = time.process_time()
        with pytest.raises((BrokenImage, UnsupportedImage)):
            decode_image(bomb, "image")
        assert time.process_time() - started_s < 1.0

    def test_many_chunks_and_markers_are_no_crime(self) -> None:
        large = saved(Image.effect_noise((2500, 2000), 90).convert("RGB"), "PNG", compress_level=1)
        assert large.count(b"IDAT") > 100
        assert decode_image(large, "image").size == (2500, 2000)
        data = saved(quarters(), "JPEG")
        assert decode_image(data[:2] + b"\xff\xfe\0\2" * 500 + data[2:], "image").size == (48, 32)

    def test_noise_after_a_good_start_is_never_another_error(self) -> None:
        randomness = np.random.default_rng(1)
        pillow_heif.register_heif_opener()
        for name in ("PNG", "JPEG", "WEBP", "HEIF"):
            good = bytearray(saved(quarters(), name))
            for _ in range(60):
                data = bytearray(good)
                for place in randomness.integers(12, len(good), 4):
                    data[place] = randomness.integers(0, 256)
                with suppress(ClientError):
                    decode_image(bytes(data), "image")


class TestBase64:
    def test_there_and_back(self) -> None:
        assert to_base64(b"hello") == "aGVsbG8="
        assert decode_base64("aGVsbG8=", "image") == b"hello"

    @pytest.mark.parametrize(
        "text",
        ["", "aGVs*bG8=", "aGVsbG8", "aGVs bG8=", "aGVsbG8=\n", "aGVsbG8==", "a-_b", "é", "data:image/png;base64,aGVs"],
    )
    def test_anything_else_is_refused_by_name(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match=r"^IMAGE_LIST\[3\] ") as caught:
            decode_base64(text, "IMAGE_LIST[3]")
        assert caught.value.details == {"field": "IMAGE_LIST[3]"}

    def test_a_data_url_gets_its_own_words(self) -> None:
        with pytest.raises(InvalidRequest, match="without a data: prefix"):
            decode_base64("data:image/png;base64,aGVs", "image")


class TestEncode:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 4), np.uint8)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_png_is_exact(self, channels: int) -> None:
        data = encode_png(self.pixels[..., :channels])
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            assert (np.asarray(picture) == self.pixels[..., :channels]).all()

    def test_png_is_little_larger_than_what_everybody_writes(self) -> None:
        photo = np.random.default_rng(0).normal(0, 3, (256, 256, 3))  # a camera's grain on a slope
        photo += np.linspace(40, 200, 256)[:, None, None]
        pixels = np.clip(photo, 0, 255).astype(np.uint8)
        assert len(encode_png(pixels)) < 1.1 * len(saved(Image.fromarray(pixels), "PNG"))

    def test_jpeg_is_close_and_its_quality_counts(self) -> None:
        pixels = np.asarray(quarters().resize((96, 64)))
        data = encode_jpeg(pixels)
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            assert_colours(picture, [RED, GREEN, BLUE, WHITE], tolerance=8)
        assert len(encode_jpeg(pixels, quality=30)) < len(data)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_webp_is_close(self, channels: int) -> None:
        pixels = np.asarray(quarters("RGBA"))[..., :channels]
        with Image.open(io.BytesIO(encode_webp(pixels)), formats=["WEBP"]) as picture:
            assert_colours(picture.convert("RGB"), [RED, GREEN, BLUE, WHITE], tolerance=16)

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros(4, np.uint8),
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((4, 4, 3), np.float32),
            np.zeros((1, 4, 4, 3), np.uint8),
        ],
    )
    def test_other_arrays_are_a_bug_of_the_caller(self, pixels: Any) -> None:
        for encode in (encode_png, encode_jpeg, encode_webp):
            with pytest.raises(ValueError, match="pixels:"):
                encode(pixels)

    def test_jpeg_has_no_alpha(self) -> None:
        with pytest.raises(ValueError, match="pixels:"):
            encode_jpeg(self.pixels)


def swapped_primaries_profile() -> bytes:
    """sRGB with red and green swapped, made from Pillow's own profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


class TestPicture:
    """`decode_picture`: colour and transparency apart, 16 bits where they are asked for."""

    def test_transparency_is_kept_beside_the_colour(self) -> None:
        picture = quarters("RGBA")
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        decoded = decode_picture(saved(picture, "PNG"), "image")
        assert decoded.alpha is not None
        assert np.array_equal(np.dstack([decoded.colour, decoded.alpha]), np.asarray(picture))
        assert (decoded.width_px, decoded.height_px, decoded.is_16_bit) == (48, 32, False)

    def test_an_opaque_picture_has_none(self) -> None:
        decoded = decode_picture(saved(quarters(), "PNG"), "image")
        assert decoded.alpha is None
        assert np.array_equal(decoded.colour, np.asarray(quarters()))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("depth", [8, 16])
    def test_every_exif_turn_is_that_of_pillow(self, orientation: int, depth: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = quarters("RGBA")
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved(picture, "PNG", exif=exif)))))
        data = saved(picture, "PNG", exif=exif)
        if depth == 16:
            data = sixteen_bit_png(np.asarray(picture).astype(np.uint16) * 257, exif.tobytes())
        decoded = decode_picture(data, "image", keep_16_bit=True)
        assert decoded.is_16_bit is (depth == 16)
        assert decoded.alpha is not None
        values = np.dstack([decoded.colour, decoded.alpha])
        assert np.array_equal(values // (257 if depth == 16 else 1), expected)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_16_bits_are_kept_where_they_are_asked_for(self, channels: int) -> None:
        values = np.random.default_rng(0).integers(0, 65536, (7, 5, channels), dtype=np.uint16)
        data = sixteen_bit_png(values)
        kept = decode_picture(data, "image", keep_16_bit=True)
        assert kept.is_16_bit
        assert np.array_equal(kept.colour, values[..., :3] if channels > 1 else values.repeat(3, axis=2))
        assert (kept.alpha is not None) is (channels == 4)
        if kept.alpha is not None:
            assert np.array_equal(kept.alpha, values[..., 3])
        eight_bit = decode_picture(data, "image")
        assert not eight_bit.is_16_bit
        assert np.abs(eight_bit.colour.astype(int) - kept.colour / 257).max() <= 1

    def test_a_transparent_grey_of_16_bits(self) -> None:
        rows = b"\0" + struct.pack(">2H", 1000, 30000)
        data = raw_png(2, 1, 16, 0, rows, png_chunk(b"tRNS", struct.pack(">H", 1000)))
        for keep, opaque in ((True, 65535), (False, 255)):
            alpha = decode_picture(data, "image", keep_16_bit=keep).alpha
            assert alpha is not None
            assert alpha.tolist() == [[0, opaque]]

    @pytest.mark.parametrize("keep_16_bit", [True, False])
    def test_a_transparent_colour_of_16_bits(self, keep_16_bit: bool) -> None:
        key, other = [0x1234] * 3, [0x3456] * 3
        rows = b"\0" + struct.pack(">6H", *key, *other)
        data = raw_png(2, 1, 16, 2, rows, png_chunk(b"tRNS", struct.pack(">3H", *key)))
        alpha = decode_picture(data, "image", keep_16_bit=keep_16_bit).alpha
        assert alpha is not None
        assert alpha.tolist() == [[0, 65535 if keep_16_bit else 255]]

    def test_pixels_with_a_wrong_checksum_are_broken(self) -> None:
        data = bytearray(raw_png(1, 1, 8, 0, b"\0\1"))
        checksum = data.index(b"IEND") - 8
        data[checksum] ^= 1
        with pytest.raises(BrokenImage):
            decode_picture(bytes(data), "image")

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_a_transparent_grey_of_few_bits(self, depth: int) -> None:
        most = 2**depth - 1
        packed = b"".join(bytes([value << (8 - depth)]) for value in (0, most))  # a pixel a row
        rows = b"\0" + packed[:1] + b"\0" + packed[1:]
        data = raw_png(1, 2, depth, 0, rows, png_chunk(b"tRNS", struct.pack(">H", most)))
        alpha = decode_picture(data, "image").alpha
        assert alpha is not None
        assert alpha.tolist() == [[255], [0]]

    def test_16_bits_with_a_profile_become_8_in_srgb(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        chunk = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))
        data = raw_png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 65535, 0, 0), chunk)
        decoded = decode_picture(data, "image", keep_16_bit=True)
        assert not decoded.is_16_bit
        assert np.abs(decoded.colour[0, 0].astype(int) - RED).max() <= 1

    def test_half_a_file_of_16_bits_is_broken(self) -> None:
        values = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
        data = sixteen_bit_png(values)
        with pytest.raises(BrokenImage):
            decode_picture(data[: len(data) // 2], "image", keep_16_bit=True)


def sixteen_bit_png(values: np.ndarray, exif: bytes = b"") -> bytes:
    """A PNG of (H, W, 1, 3 or 4) uint16 values."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))] if exif else []
    return raw_png(width, height, 16, {1: 0, 3: 2, 4: 6}[channels], rows, *chunks)


class TestEncodeMore:
    def test_png_of_16_bits_and_of_grey_is_exact(self) -> None:
        values = np.random.default_rng(0).integers(0, 65536, (9, 11, 4), dtype=np.uint16)
        for channels in (3, 4):
            again = decode_picture(encode_png(values[..., :channels]), "image", keep_16_bit=True)
            assert np.array_equal(again.colour, values[..., :3])
            assert (again.alpha is not None) is (channels == 4)
        grey = values[..., 0].astype(np.uint8)
        with Image.open(io.BytesIO(encode_png(grey))) as picture:
            assert (picture.mode, np.array_equal(np.asarray(picture), grey)) == ("L", True)

    def test_the_best_jpeg_that_fits(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        sizes = {quality: len(encode_jpeg(pixels, quality)) for quality in (1, 60, 61, 100)}
        assert len(encode_jpeg_within(pixels, sizes[60])) == sizes[60]
        assert len(encode_jpeg_within(pixels, sizes[61] - 1)) == sizes[60]
        assert len(encode_jpeg_within(pixels, 10**9)) == sizes[100]
        with pytest.raises(ImageTooLarge):
            encode_jpeg_within(pixels, sizes[1] - 1)
