"""Pictures that a service meets sooner or later, as base64; each one made here."""

from __future__ import annotations

import base64
import functools
import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image, ImageCms


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()


def saved(image: Image.Image, image_format: str, **options: object) -> str:
    """``image`` as a file of this format."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return b64(file.getvalue())


def _photo(mode: str = "RGB") -> Image.Image:
    ramp = np.linspace(0, 255, 96 * 64 * 3, dtype=np.uint8).reshape(64, 96, 3)
    return Image.fromarray(ramp).convert(mode)


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims a size, whatever it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@functools.cache
def accepted() -> dict[str, str]:
    """Pictures that are read, by what is odd about them."""
    turned = Image.Exif()
    turned[0x0112] = 6
    sixteen_bit = Image.fromarray(np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16))
    palette = _photo("P")
    palette.info["transparency"] = 0
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    heic = io.BytesIO()
    pillow_heif.from_pillow(_photo()).save(heic)
    return {
        "CMYK JPEG": saved(_photo("CMYK"), "JPEG"),
        "16-bit grey PNG": saved(sixteen_bit, "PNG"),
        "palette PNG with a transparent colour": saved(palette, "PNG", transparency=0),
        "grey and alpha PNG": saved(_photo("LA"), "PNG"),
        "RGBA PNG": saved(_photo("RGBA"), "PNG"),
        "1-bit PNG": saved(_photo("1"), "PNG"),
        "EXIF-turned JPEG": saved(_photo(), "JPEG", exif=turned),
        "JPEG with an ICC profile": saved(_photo(), "JPEG", icc_profile=profile),
        "animated WebP": saved(_photo(), "WEBP", save_all=True, append_images=[_photo("L").convert("RGB")]),
        "animated PNG": saved(_photo(), "PNG", save_all=True, append_images=[_photo("L").convert("RGB")]),
        "HEIC": b64(heic.getvalue()),
    }


@functools.cache
def refused() -> dict[str, tuple[str, int, str]]:
    """Pictures that are not read, with the status and the error code of the answer."""
    png = base64.b64decode(saved(_photo(), "PNG"))
    jpeg = base64.b64decode(saved(_photo(), "JPEG"))
    flat_88_megapixels = base64.b64decode(saved(Image.new("RGBA", (11_000, 8_000)), "PNG"))
    text_bomb = zlib.compress(bytes(200_000_000), 9)
    return {
        "not base64": ("@@@not base64@@@", 400, "invalid_request"),
        "base64 with a line break": (b64(png)[:20] + "\n" + b64(png)[20:], 400, "invalid_request"),
        "base64 without padding": (
            b64(png + b"x").rstrip("=") if len(png + b"x") % 3 else b64(png)[:-1],
            400,
            "invalid_request",
        ),
        "a data URL": ("data:image/png;base64," + b64(png), 400, "invalid_request"),
        "empty": ("", 400, "invalid_request"),
        "text": (b64(b"hello, I am no picture"), 415, "unsupported_image"),
        "SVG": (b64(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), 415, "unsupported_image"),
        "PDF": (b64(b"%PDF-1.7\n"), 415, "unsupported_image"),
        "EPS": (b64(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), 415, "unsupported_image"),
        "GIF": (saved(_photo(), "GIF"), 415, "unsupported_image"),
        "TIFF": (saved(_photo(), "TIFF"), 415, "unsupported_image"),
        "half a PNG": (b64(png[: len(png) // 2]), 400, "broken_image"),
        "half a JPEG": (b64(jpeg[: len(jpeg) // 2]), 400, "broken_image"),
        "only a PNG's signature": (b64(png[:8]), 400, "broken_image"),
        "88 megapixels in a small file": (b64(flat_88_megapixels), 413, "image_too_large"),
        "a claim of 20,000 x 20,000": (b64(_png(20_000, 20_000, (b"IDAT", b""))), 413, "image_too_large"),
        "a claim of 2^31-1 squared": (b64(_png(2**31 - 1, 2**31 - 1)), 413, "image_too_large"),
        "a text chunk that unpacks to 200 MB": (
            b64(_png(8, 8, (b"zTXt", b"a\0\0" + text_bomb), (b"IDAT", zlib.compress(bytes(72))))),
            400,
            "broken_image",
        ),
    }
