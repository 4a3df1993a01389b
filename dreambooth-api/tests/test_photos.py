from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from enlight.dreambooth_api.centre_square import centre_square
from enlight.dreambooth_api.photos import image_to_pixels, load_photo, rgb_to_pixels
from enlight.servicekit.errors import BrokenImage


def _stripes(width: int, height: int) -> Image.Image:
    """Left third red, middle third green, right third blue."""
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    for third in range(3):
        rgb[:, width * third // 3 : width * (third + 1) // 3, third] = 255
    return Image.fromarray(rgb)


def test_the_centre_square_is_taken() -> None:
    # Given a wide picture whose middle third is green
    picture = centre_square(_stripes(96, 32), 64)

    # Then only the middle is left
    assert picture.size == (64, 64)
    middle = np.asarray(picture)[8:-8, 8:-8]
    assert (middle == (0, 255, 0)).all()


def test_a_tall_picture_is_cut_above_and_below() -> None:
    tall = _stripes(96, 32).transpose(Image.Transpose.ROTATE_90)
    assert (np.asarray(centre_square(tall, 32))[4:-4, 4:-4] == (0, 255, 0)).all()


@pytest.mark.parametrize("size", [(192, 128), (128, 192), (128, 128)])
def test_it_is_resizing_and_cropping(size: tuple[int, int]) -> None:
    # Given a photo with detail
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    photo = Image.fromarray(noise)

    # When it is resized to a short side of 64 first and cropped then
    resized = photo.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    left, top = (resized.width - 64) // 2, (resized.height - 64) // 2
    expected = resized.crop((left, top, left + 64, top + 64))

    # Then that is what square gives
    assert np.array_equal(np.asarray(centre_square(photo, 64)), np.asarray(expected))


def test_a_very_long_panorama_costs_no_memory() -> None:
    # Given a picture that is 8000 times as long as high: resized first, it would have 512 x 4,096,000 pixels
    panorama = Image.new("RGB", (8000, 1), (10, 20, 30))
    assert centre_square(panorama, 512).getpixel((5, 5)) == (10, 20, 30)


def test_pixels_are_scaled_to_plus_minus_one() -> None:
    rgb = torch.tensor([[[[0, 127, 255]]]], dtype=torch.uint8)
    pixels = rgb_to_pixels(rgb)
    assert pixels.shape == (1, 3, 1, 1)
    assert pixels.flatten().tolist() == pytest.approx([-1.0, 127 / 127.5 - 1, 1.0])


def test_a_file_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    # Given a photo taken with the camera turned: EXIF orientation 6, to be turned by 90 degrees clockwise
    photo = _stripes(96, 96)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo", format="png", exif=exif)

    # When it is loaded
    pixels = load_photo(tmp_path / "photo", 96, field="IMAGE_LIST[0]")

    # Then its left is on top
    assert pixels.shape == (1, 3, 96, 96)
    assert torch.equal(pixels, image_to_pixels(photo.transpose(Image.Transpose.ROTATE_270)))


def test_a_broken_file_names_its_field(tmp_path: Path) -> None:
    _stripes(96, 96).save(tmp_path / "photo", format="png")
    content = (tmp_path / "photo").read_bytes()
    (tmp_path / "photo").write_bytes(content[: len(content) // 2])
    with pytest.raises(BrokenImage, match=r"IMAGE_LIST\[3\]"):
        load_photo(tmp_path / "photo", 64, field="IMAGE_LIST[3]")
