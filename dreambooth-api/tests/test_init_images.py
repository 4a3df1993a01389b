"""Pictures to begin from: which size is made of them, what their masks leave, and what is read of a body."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from enlight.dreambooth_api.init_image_reader import InitImageReader
from enlight.dreambooth_api.init_images import SizeLimits, first_step, fit, fitted_size, least_strength, put_back
from enlight.dreambooth_api.requests import InitImage
from enlight.dreambooth_api.schemas import GenerationBody
from enlight.servicekit.errors import BrokenImage, ImageTooLarge, InvalidField, InvalidRequest, UnsupportedImage

LIMITS = SizeLimits(256, 1024)


@pytest.mark.parametrize(
    ("own_px", "asked_px", "made_px"),
    [
        ((512, 768), (None, None), (512, 768)),
        ((517, 771), (None, None), (520, 768)),
        ((4000, 3000), (None, None), (1024, 768)),
        ((100, 50), (None, None), (512, 256)),
        ((6000, 300), (None, None), (1024, 256)),
        ((20, 3000), (None, None), (256, 1024)),
        ((1, 1), (None, None), (256, 256)),
        ((1000, 500), (512, 512), (512, 512)),
        ((1000, 500), (512, None), (512, 256)),
        ((1000, 500), (None, 400), (800, 400)),
        ((1000, 500), (None, 800), (1024, 800)),
        ((1000, 500), (4096, 8), (1024, 256)),
    ],
)
def test_the_size_that_is_made(
    own_px: tuple[int, int], asked_px: tuple[int | None, int | None], made_px: tuple[int, int]
) -> None:
    assert fitted_size(own_px, asked_px, LIMITS) == made_px
    # What fits already stays as it is
    assert fitted_size(made_px, (None, None), LIMITS) == made_px


def test_what_is_made_near_its_size_first_ends_up_at_the_same() -> None:
    # Given the limits of no base, as long as it is not known which one it is
    any_base = SizeLimits(1, 1536, multiple_px=1)
    for own_px in ((150, 100), (530, 771), (4000, 3000), (6000, 300), (20, 20)):
        for asked_px in ((None, None), (512, None), (512, 768)):
            near_px = fitted_size(own_px, asked_px, any_base)
            # Then a picture that is brought near its size is small enough to hand on
            assert max(near_px) <= 1536
            # And what a base makes of it is what it would have made of the picture itself
            assert fitted_size(near_px, asked_px, LIMITS) == fitted_size(own_px, asked_px, LIMITS)


def halves(width_px: int, height_px: int, *, left: int = 0) -> InitImage:
    """Black with a white middle third, which the mask covers too."""
    grey = np.full((height_px, width_px), left, np.uint8)
    grey[:, width_px // 3 : width_px - width_px // 3] = 255
    return InitImage(np.repeat(grey[..., None], 3, axis=-1), grey, 1.0, keep_unmasked=True)


def test_picture_and_mask_are_covered_and_cut_alike() -> None:
    # Given a wide picture whose middle third is white and masked
    fitted = fit(halves(900, 300), LIMITS, width_px=256, height_px=256)
    # When a square is made of it, then the middle is what is left, of both
    assert fitted.rgb.shape == (256, 256, 3)
    assert fitted.rgb.min() > 240
    assert fitted.repaint is not None
    assert fitted.repaint.all()
    # And one that has its size already is the same to the bit
    same = halves(512, 256)
    again = fit(same, LIMITS, width_px=None, height_px=None)
    assert again.rgb is same.rgb
    assert again.mask is same.mask


def test_a_mask_of_which_the_cut_leaves_nothing_is_refused() -> None:
    init = halves(900, 300)
    assert init.mask is not None
    init.mask[:, 300:600] = 100
    init.mask[:, :100] = 255
    with pytest.raises(InvalidField, match=r"^mask: must be white somewhere"):
        fit(init, LIMITS, width_px=256, height_px=256)


def test_strength_is_the_part_of_the_steps_that_is_run() -> None:
    assert [first_step(strength, 50) for strength in (0.02, 0.3, 0.58, 0.8, 1.0)] == [49, 35, 22, 10, 0]
    with pytest.raises(InvalidField, match=r"^strength: must be at least 0\.04 for 25 steps"):
        first_step(0.039, 25)
    # What the message names is enough, for every number of steps
    for steps in range(1, 1001):
        assert first_step(least_strength(steps), steps) < steps


def test_what_was_not_masked_is_put_back() -> None:
    init = halves(48, 32)
    painted = np.full((32, 48, 3), 77, np.uint8)
    whole = put_back(init, painted)
    assert (whole[:, 16:32] == 77).all()
    assert np.array_equal(whole[:, :16], init.rgb[:, :16])
    assert np.array_equal(whole[:, 32:], init.rgb[:, 32:])
    for nothing_is_put_back in (
        None,
        InitImage(init.rgb, init.mask, 1.0, keep_unmasked=False),
        InitImage(init.rgb, None, 0.8, keep_unmasked=True),
    ):
        assert put_back(nothing_is_put_back, painted) is painted


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return base64.b64encode(file.getvalue()).decode()


GREY = encoded(Image.new("RGB", (320, 256), (90, 90, 90)))
LEFT_WHITE = Image.new("L", (320, 256), 0)
LEFT_WHITE.paste(255, (0, 0, 160, 256))


def body(**fields: Any) -> GenerationBody:
    return GenerationBody(model_id="dog", prompt="a sks dog", **fields)


def read(**fields: Any) -> InitImage:
    init = InitImageReader().read(body(**fields), LIMITS)
    assert init is not None
    return init


def test_what_a_body_leaves_out() -> None:
    assert InitImageReader().read(body(), LIMITS) is None
    image = read(image=GREY)
    assert (image.rgb.shape, image.mask, image.strength) == ((256, 320, 3), None, 0.8)
    masked = read(image=GREY, mask=encoded(LEFT_WHITE))
    assert (masked.strength, masked.keep_unmasked) == (1.0, True)
    said = read(image=GREY, mask=encoded(LEFT_WHITE), strength=0.5, keep_unmasked=False)
    assert (said.strength, said.keep_unmasked) == (0.5, False)


def transparent() -> Image.Image:
    """White where it should be painted: because that is see-through."""
    image = Image.new("RGBA", (320, 256), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 160, 256))
    return image


MASKS: Mapping[str, Image.Image] = {
    "grey": LEFT_WHITE,
    "two levels": LEFT_WHITE.convert("1"),
    "colours": LEFT_WHITE.convert("RGB"),
    "a palette": LEFT_WHITE.convert("P"),
    "16 bits": Image.fromarray(np.asarray(LEFT_WHITE).astype(np.uint16) * 257),
    "transparent": transparent(),
}


@pytest.mark.parametrize("mode", MASKS)
def test_a_mask_may_have_any_mode(mode: str) -> None:
    repaint = read(image=GREY, mask=encoded(MASKS[mode])).repaint
    assert repaint is not None
    assert repaint[:, :160].all()
    assert not repaint[:, 160:].any()


def test_a_picture_is_upright_and_on_white() -> None:
    turned = Image.new("RGB", (320, 256))
    turned.getexif()[0x0112] = 6
    assert read(image=encoded(turned, "JPEG", exif=turned.getexif())).rgb.shape == (320, 256, 3)
    assert (read(image=encoded(transparent())).rgb[:, :160] == 255).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": GREY}, "mask: means nothing without an `image`"),
        ({"strength": 0.5}, "strength: means nothing without an `image`"),
        ({"keep_unmasked": True}, "keep_unmasked: means nothing without a `mask`"),
        ({"image": GREY, "keep_unmasked": False}, "keep_unmasked: means nothing without a `mask`"),
        (
            {"image": GREY, "mask": encoded(Image.new("L", (256, 320), 255))},
            "mask: must have the image's size, 320 x 256 pixels, not 256 x 320",
        ),
        ({"image": GREY, "mask": encoded(Image.new("L", (320, 256), 127))}, "mask: must be white somewhere"),
    ],
)
def test_what_does_not_fit_together_names_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField, match=f"^{message}"):
        InitImageReader().read(body(**fields), LIMITS)


BAD_PICTURES = {
    "not base64": ("%%%", InvalidRequest),
    "empty": ("", InvalidRequest),
    "a text": (base64.b64encode(b"hello").decode(), UnsupportedImage),
    "a GIF": (encoded(Image.new("L", (8, 8)), "GIF"), UnsupportedImage),
    "half": (base64.b64encode(base64.b64decode(GREY)[:60]).decode(), BrokenImage),
    "far too large": (encoded(Image.new("1", (6000, 6000))), ImageTooLarge),
}


@pytest.mark.parametrize("field", ["image", "mask"])
@pytest.mark.parametrize("name", BAD_PICTURES)
def test_what_cannot_be_read_names_the_field(name: str, field: str) -> None:
    bad, error_class = BAD_PICTURES[name]
    with pytest.raises(error_class) as caught:
        InitImageReader().read(body(**{"image": GREY, field: bad}), LIMITS)
    assert caught.value.details == {"field": field}
    assert caught.value.message.startswith(field)


def test_only_so_many_pictures_are_in_memory_at_once() -> None:
    # Given a reader of one picture at a time, which is at it
    reader, read_ones = InitImageReader(read_at_once=1), []
    thread = threading.Thread(target=lambda: read_ones.append(reader.read(body(image=GREY), LIMITS)), daemon=True)
    with reader.places:
        # When another comes, then it waits
        thread.start()
        thread.join(0.5)
        assert read_ones == []
    # And is read when there is room
    thread.join(30)
    assert len(read_ones) == 1
