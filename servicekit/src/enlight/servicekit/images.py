"""Pictures at the edge of a service: base64 and files in, upright RGB in sRGB out, and back into files.

What comes in is hostile until shown otherwise: only the formats that are named here are tried, the header's size is
checked before a pixel is decoded, and whatever a decoder raises is the client's error.
"""

from __future__ import annotations

import binascii
import functools
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pillow_heif
import pybase64
from PIL import Image, ImageCms

from enlight.servicekit.errors import (
    BrokenImage,
    ImageTooLarge,
    InternalError,
    InvalidRequest,
    UnsupportedImage,
)
from enlight.servicekit.parallel_png import encode_png_rows
from enlight.servicekit.picture_rows import rows_of
from enlight.servicekit.strips import shared_strips

MAX_PIXELS = 25_000_000
MAX_SIDE_PX = 8192
MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten scans, each picture of a set as many. Each costs a pass over the whole picture and
next to no bytes, so that a small file could keep a decoder busy for hours (25 megapixels: 40 ms a scan)."""
MAX_PARTS = 50_000
"""Chunks of a PNG (a large one has a few thousand), markers before the first scan of a JPEG (a few dozen). Pillow
walks over them in Python, 10 us each: 30 MB of empty ones took it half a minute."""

Pixels = npt.NDArray[np.uint8]
Pixels16 = npt.NDArray[np.uint16]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_ORIENTATION_TAG = 0x0112
_TURNS: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: np.fliplr,
    3: functools.partial(np.rot90, k=2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: functools.partial(np.rot90, k=-1),
    7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), k=2),
    8: np.rot90,
}
"""What undoes each EXIF orientation."""


def decode_base64(text: str, field: str) -> bytes:
    """The bytes of a base64 text: standard alphabet, padded, no white space, no ``data:`` prefix.

    Raises InvalidRequest, which names ``field`` (for an element of a list: ``IMAGE_LIST[3]``).
    """
    if text.startswith("data:"):
        problem = "must be plain base64, without a data: prefix"
    elif not text:
        problem = "is empty; base64 was expected"
    else:
        try:
            return pybase64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            problem = "is not base64 (standard alphabet with padding, no white space)"
    raise InvalidRequest(f"{field} {problem}.", details={"field": field})


def to_base64(data: bytes) -> str:
    """Base64 in the standard alphabet, padded, one line."""
    return pybase64.b64encode_as_string(data)


@dataclass(frozen=True)
class Picture:
    """What a picture file shows, as it is meant to be seen.

    Attributes:
        colour: (H, W, 3) RGB in sRGB, uint8, or uint16 where 16 bits were asked for and are there.
        alpha: (H, W), of the same dtype; None for a picture without transparency.
    """

    colour: Pixels | Pixels16
    alpha: Pixels | Pixels16 | None

    @property
    def width_px(self) -> int:
        """Width."""
        return int(self.colour.shape[1])

    @property
    def height_px(self) -> int:
        """Height."""
        return int(self.colour.shape[0])

    @property
    def is_16_bit(self) -> bool:
        """Whether the values reach to 65535."""
        return self.colour.dtype == np.uint16


def decode_image(
    data: bytes, field: str, *, max_pixels: int = MAX_PIXELS, max_side_px: int = MAX_SIDE_PX
) -> Image.Image:
    """The picture in a PNG, JPEG, WebP or HEIC file, as it is meant to be seen, without transparency.

    Mode RGB in sRGB: turned upright by its EXIF orientation, converted from its ICC profile, 16 bits brought to 8,
    transparency laid on white, the first frame of several. It carries no metadata.

    Raises: as `decode_picture`.
    """

    picture = decode_picture(data, field, max_pixels=max_pixels, max_side_px=max_side_px)
    colour = Image.fromarray(picture.colour)
    if picture.alpha is None:
        return colour
    white = Image.new("RGB", colour.size, "white")
    white.paste(colour, mask=Image.fromarray(picture.alpha))
    return white


def decode_picture(
    data: bytes,
    field: str,
    *,
    keep_16_bit: bool = False,
    max_pixels: int = MAX_PIXELS,
    max_side_px: int = MAX_SIDE_PX,
) -> Picture:
    """The picture in a PNG, JPEG, WebP or HEIC file with its transparency: upright, in sRGB, the first frame.

    Args:
        data: The file.
        field: What messages call it.
        keep_16_bit: Keep the 16 bits of a PNG that has them. One with an ICC profile is brought to 8 all the same:
            the conversion to sRGB has no more.
        max_pixels: Largest width times height.
        max_side_px: Longest side.

    Raises:
        UnsupportedImage: not one of these formats.
        ImageTooLarge: the header claims more than ``max_pixels``, or a side longer than ``max_side_px``.
        BrokenImage: it cannot be decoded, to its end.
    """

    name = _format_of(data)
    if name is None:
        raise UnsupportedImage(f"{field} is not a PNG, JPEG, WebP or HEIC picture.", details={"field": field})
    try:
        if name == "HEIF":
            _register_heif()
        if name == "PNG":
            _check_png_chunks(data)
        if name == "JPEG":
            _check_jpeg_markers(data)
        with Image.open(io.BytesIO(data), formats=[name]) as opened:
            width, height = opened.size
            if width * height > max_pixels or max(width, height) > max_side_px:
                raise _too_large(field, f"{width} x {height} pixels", max_pixels, max_side_px)
            opened.load()
            picture = _picture(opened, data, keep_16_bit=keep_16_bit)
            return _upright(picture, _orientation(opened))
    except ImageTooLarge:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(field, "far too many pixels", max_pixels, max_side_px) from error
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, MemoryError ...
        raise BrokenImage(f"{field} is a broken {name} picture.", details={"field": field}) from error


def _format_of(data: bytes) -> str | None:
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return None


def _check_png_chunks(data: bytes) -> None:
    view = memoryview(data)
    position = 8
    for _ in range(MAX_PARTS):
        if position + 8 > len(data):
            return
        end = position + 8 + int.from_bytes(data[position : position + 4])
        # Of the chunks that matter this is the one whose sum Pillow does not look at.
        is_pixels = data[position + 4 : position + 8] == b"IDAT" and end + 4 <= len(data)
        if is_pixels and zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise ValueError("its pixels do not have the checksum that they should have")
        position = end + 4
    raise ValueError("more chunks than any program writes")


def _check_jpeg_markers(data: bytes) -> None:
    if data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise ValueError("more scans than any camera or program writes")
    position = 2
    for _ in range(MAX_PARTS):
        if data[position : position + 2] == b"\xff\xda" or position >= len(data):
            return
        if data[position : position + 2] == b"\xff\xff" or data[position : position + 1] != b"\xff":
            position += 1  # padding, and what should not be there: the decoder looks on for a marker as well
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise ValueError("more markers than any camera or program writes")


def _too_large(field: str, size: str, max_pixels: int, max_side_px: int) -> ImageTooLarge:
    limit = f"{max_pixels / 1e6:g} megapixels and {max_side_px} pixels on a side"
    return ImageTooLarge(f"{field} has {size}; the limit is {limit}.", details={"field": field})


@functools.cache
def _register_heif() -> None:
    pillow_heif.register_heif_opener()


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 — a picture whose EXIF cannot be read is shown as it lies
        return 1


def _picture(opened: Image.Image, data: bytes, *, keep_16_bit: bool) -> Picture:
    """What Pillow read to its end, as it lies: OpenCV, which reads 16 bits, would make do with half a file."""
    depth = _png_depth(data)
    if depth == 16:
        samples = cast(Pixels16 | None, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        if samples is not None and samples.dtype == np.uint16 and samples.shape[:2] == (opened.height, opened.width):
            return _sixteen_bit_picture(samples, opened, keep_16_bit=keep_16_bit)
    profile = opened.info.get("icc_profile")
    alpha = None
    picture = opened
    if opened.has_transparency_data:
        transparent = opened.info.get("transparency")
        if depth in (2, 4) and opened.mode == "L" and isinstance(transparent, int):
            # Pillow spreads the values over 0 to 255 and leaves the transparent one as it is in the file.
            opened.info["transparency"] = transparent * 255 // (2**depth - 1)
        picture = opened.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A"))
        picture = picture.convert("RGB")
    elif opened.mode in ("P", "1"):
        picture = opened.convert("RGB")
    colour = _from_profile(picture, profile) if profile else None
    if colour is None:
        colour = picture if picture.mode == "RGB" else picture.convert("RGB")  # convert() copies either way
    return Picture(np.asarray(colour), alpha)


def _upright(picture: Picture, orientation: int) -> Picture:
    turn = _TURNS.get(orientation)
    if turn is None:
        return picture
    alpha = None if picture.alpha is None else np.ascontiguousarray(turn(picture.alpha))
    return Picture(np.ascontiguousarray(turn(picture.colour)), alpha)


def _png_depth(data: bytes) -> int | None:
    return data[24] if data.startswith(_PNG_SIGNATURE) else None  # the bit depth in IHDR, which comes first


def _sixteen_bit_picture(samples: Pixels16, opened: Image.Image, *, keep_16_bit: bool) -> Picture:
    """The picture of a PNG's 16-bit samples, as OpenCV orders them; Pillow reads only the upper eight bits of colours,
    and compares them with the lower ones of the transparent colour."""
    alpha = None
    transparent = opened.info.get("transparency")
    if samples.ndim == 3 and samples.shape[2] == 4:
        alpha = np.ascontiguousarray(samples[..., 3])
        colour = _converted(samples, cv2.COLOR_BGRA2RGB)
    else:
        colour = _converted(samples, cv2.COLOR_GRAY2RGB if samples.ndim == 2 else cv2.COLOR_BGR2RGB)
        if transparent is not None:
            alpha = np.where((colour == np.asarray(transparent)).all(axis=-1), 0, 65535).astype(np.uint16)
    profile = opened.info.get("icc_profile")
    if keep_16_bit and not profile:
        return Picture(colour, alpha)
    eight_bit = Image.fromarray(_eight_bits(colour))
    if profile:
        is_grey = opened.mode.startswith(("I", "L"))
        eight_bit = _from_profile(eight_bit.convert("L") if is_grey else eight_bit, profile) or eight_bit
    return Picture(np.asarray(eight_bit), None if alpha is None else _eight_bits(alpha))


def _converted(samples: Pixels16, conversion: int) -> Pixels16:
    return cast(Pixels16, cv2.cvtColor(samples, conversion))


def _eight_bits(samples: Pixels16) -> Pixels:
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _from_profile(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB; None when its profile is broken or not of its kind: it is then taken for sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(
            picture,
            source,
            _srgb(),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def encode_png(pixels: Pixels | Pixels16) -> bytes:
    """A PNG file of (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA pixels, uint8 or uint16."""
    _check_pixels(pixels, channels=(1, 3, 4), dtypes=(np.uint8, np.uint16))
    return encode_png_rows(rows_of(pixels), shared_strips())


def encode_jpeg(pixels: Pixels, quality: int = 95) -> bytes:
    """A JPEG file of (H, W) grey or (H, W, 3) RGB pixels; ``quality`` in [1, 100]."""
    return _encode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality], channels=(1, 3))


def encode_webp(pixels: Pixels, quality: int = 90) -> bytes:
    """A WebP file of (H, W, 3) RGB or (H, W, 4) RGBA pixels; lossy with ``quality`` in [1, 100]. WebP ends at 16383
    pixels a side."""
    return _encode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality], channels=(3, 4))


def encode_jpeg_within(pixels: Pixels, max_bytes: int) -> bytes:
    """The JPEG file of (H, W, 3) RGB pixels with the highest quality that has at most ``max_bytes``.

    Raises:
        ImageTooLarge: not even the lowest quality is small enough.
    """
    best: bytes | None = None
    low, high = 1, 100
    while low <= high:
        quality = (low + high) // 2
        file = encode_jpeg(pixels, quality)
        if len(file) <= max_bytes:
            best, low = file, quality + 1
        else:
            high = quality - 1
    if best is None:
        raise ImageTooLarge(f"The picture does not fit into {max_bytes} bytes at any quality.")
    return best


_TO_OPENCV = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}


def _encode(extension: str, pixels: Pixels, parameters: list[int], *, channels: tuple[int, ...]) -> bytes:
    count = _check_pixels(pixels, channels=channels, dtypes=(np.uint8,))
    done, data = cv2.imencode(extension, cv2.cvtColor(pixels, _TO_OPENCV[count]) if count > 1 else pixels, parameters)
    if not done:
        raise InternalError("A picture could not be encoded.")
    return cast(Pixels, data).tobytes()


def _check_pixels(pixels: npt.NDArray[Any], *, channels: tuple[int, ...], dtypes: tuple[type, ...]) -> int:
    """The number of channels."""
    count = 1 if pixels.ndim == 2 else pixels.shape[2] if pixels.ndim == 3 else 0
    if count not in channels or pixels.dtype not in dtypes or pixels.size == 0:
        allowed = f"{' or '.join(map(str, channels))} channels of {' or '.join(kind.__name__ for kind in dtypes)}"
        raise ValueError(f"pixels: (H, W) or (H, W, C) with {allowed}, got {pixels.shape} {pixels.dtype}")
    return count
