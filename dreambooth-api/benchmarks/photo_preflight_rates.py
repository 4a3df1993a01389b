"""How often each warning about photos is right: ordinary pictures, and degraded copies of all of them.

    pip install scikit-image    # its photos
    python dreambooth-api/benchmarks/photo_preflight_rates.py

Prints the share of pictures with each warning, for the ordinary ones (wrongly flagged) and for each degradation
(caught). The drawn photos show the tuning subjects only, on every background; they need the Noto Color Emoji font.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import skimage
import torch
from PIL import Image, ImageOps

from enlight.dreambooth_api.centre_square import centre_square
from enlight.dreambooth_api.photo_looks import look_at
from enlight.dreambooth_api.photo_preflight import WARNING_CODES, photo_warnings
from enlight.models.backgrounds import BACKGROUNDS, render_background
from enlight.models.demo_photos import Shot, take_photo
from enlight.models.held_out import TUNING_SUBJECTS

PHOTOS = (
    *("astronaut", "camera", "cell", "chelsea", "coffee", "coins"),
    *("ihc", "moon", "motorcycle_left", "motorcycle_right", "retina", "rocket"),
)
"""Of scikit-image's pictures those that show something; not its textures, test patterns and pages of text."""
Picture = Image.Image
Change = Callable[[Picture], Picture]


def photographs() -> list[Picture]:
    """The ordinary photos that come with scikit-image."""
    folder = Path(skimage.__file__).parent / "data"
    return [Image.open(next(folder.glob(f"{name}.*"))).convert("RGB") for name in PHOTOS]


def drawn(per_background: int, side_px: int, rng: np.random.Generator) -> Iterator[tuple[Picture, Picture]]:
    """Photos of subjects on every background, each with another shot of the same before the same background.

    The other shot is a small move: a tenth of the picture at most, 8 degrees, 5 % of the size.
    """
    for number, background in enumerate(BACKGROUNDS):
        for variant in range(per_background):
            subject = TUNING_SUBJECTS[(number * per_background + variant) % len(TUNING_SUBJECTS)]
            scale, turn = rng.uniform(0.45, 0.8), rng.uniform(-10, 10)
            x, y = rng.uniform(-0.2, 0.2, 2).tolist()
            shots = (
                Shot(background.name, scale, (x, y), turn),
                Shot(background.name, scale * 1.05, (x + 0.08, y - 0.06), turn + 8),
            )
            first, second = (Image.fromarray(take_photo(subject, shot, variant, side_px)) for shot in shots)
            yield first, second


def jpeg(quality: int) -> Change:
    """Recompressed."""

    def change(picture: Picture) -> Picture:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return change


def levels(gain: float, offset: float = 0.0) -> Change:
    """Brighter or darker."""
    return lambda picture: Image.fromarray(np.clip(np.asarray(picture) * gain + offset, 0, 255).astype(np.uint8))


def resized(factor: float) -> Change:
    """Smaller or larger."""
    return lambda picture: picture.resize((round(picture.width * factor), round(picture.height * factor)))


def grain(deviation: float) -> Change:
    """With a sensor's noise."""

    def change(picture: Picture) -> Picture:
        noise = np.random.default_rng(0).normal(0, deviation, (picture.height, picture.width, 3))
        return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))

    return change


def blurred(resolution_px: int, share: float) -> Change:
    """The centre square at the training's resolution, with a Gaussian blur of this share of its side."""

    def change(picture: Picture) -> Picture:
        square = centre_square(picture, resolution_px)
        return Image.fromarray(cv2.GaussianBlur(np.asarray(square), (0, 0), share * resolution_px))

    return change


def shaken(resolution_px: int, share: float) -> Change:
    """The same, blurred along one direction, as by a moved camera."""

    def change(picture: Picture) -> Picture:
        square = np.asarray(centre_square(picture, resolution_px))
        length = round(share * resolution_px)
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, length - 1), (length - 1, length // 3), 1.0)
        return Image.fromarray(cv2.filter2D(square, -1, kernel / kernel.sum()))

    return change


def chain(*changes: Change) -> Change:
    """One after another."""

    def change(picture: Picture) -> Picture:
        for one in changes:
            picture = one(picture)
        return picture

    return change


def without_subject(rng: np.random.Generator) -> dict[str, list[Picture]]:
    """Pictures in which there is nothing to learn."""
    y, x = np.mgrid[0:300, 0:300] / 300

    def picture(pixels: np.ndarray) -> Picture:
        full = np.broadcast_to(pixels if pixels.ndim == 3 else pixels[..., None], (*pixels.shape[:2], 3))
        return Image.fromarray(np.clip(full, 0, 255).astype(np.uint8))

    plain = [
        Image.fromarray(render_background(number, variant, 256, 7)) for number in range(12) for variant in range(3)
    ]
    gradients = [255 * x**gamma for gamma in (0.5, 1, 2.2)] + [180 * np.hypot(x, y), 255 / (1 + np.exp(8 - 16 * x))]
    gradients += [40 + 200 * np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) * 4.5)]
    noise = [rng.uniform(0, 256, (side, side, 3)) for side in (64, 100, 256, 768, 1500)]
    noise += [rng.normal(128, deviation, (side, side)) for side in (64, 256, 768) for deviation in (10, 40)]
    plaster = [
        170 + 30 * x + strength * cv2.GaussianBlur(rng.normal(0, 1, (300, 300)), (0, 0), coarse)
        for strength in (10, 40)
        for coarse in (1, 2, 3)
    ]
    dark = [np.abs(rng.normal(0, deviation, (300, 300, 3))) for deviation in (0, 4, 10)]
    made = {
        "gradient": [picture(pixels) for pixels in gradients],
        "noise": [picture(pixels) for pixels in noise],
        "plaster": [picture(pixels) for pixels in plaster],
        "black frame": [picture(pixels) for pixels in dark],
    }
    return {"plain colour": plain} | made


def report(name: str, lists: list[list[Picture]], resolution_px: int) -> None:
    """Prints the share of these sets of photos that get each warning about photos."""
    counts = dict.fromkeys(WARNING_CODES, 0)
    for pictures in lists:
        looks = [look_at(picture, resolution_px) for picture in pictures]
        for code in {warning.code for warning in photo_warnings(looks, resolution_px, field="photos")}:
            counts[code] += 1
    shares = [
        f"{code} {100 * count / len(lists):.1f} %" for code, count in counts.items() if count and code != "too_few"
    ]
    print(f"{resolution_px:4} {name:34} {len(lists):4} sets: {', '.join(shares) or 'none'}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-background", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(arguments.seed)
    photos = photographs()
    shots = list(drawn(arguments.per_background, 256, rng))
    both = [first for first, _ in shots] + photos

    shares = {64: (0.01, 0.02, 0.03, 0.04, 0.06), 768: (0.001, 0.0025, 0.005, 0.01, 0.02)}
    for resolution_px in (64, 768):
        native = [centre_square(picture, resolution_px) for picture in photos]
        report("ordinary photos", [[picture] for picture in photos], resolution_px)
        report("ordinary photos, brought to size", [[picture] for picture in native], resolution_px)
        report("drawn photos", [[first] for first, _ in shots], resolution_px)
        report("ordinary and drawn, JPEG 50", [[jpeg(50)(picture)] for picture in both], resolution_px)
        report("ordinary and drawn, grain 4", [[grain(4)(picture)] for picture in both], resolution_px)
        for share in shares[resolution_px]:
            change = blurred(resolution_px, share)
            report(f"blur of {share:.2%} of the side", [[change(picture)] for picture in both], resolution_px)
            noisy = chain(change, grain(4))
            report(f"blur of {share:.2%}, then grain 4", [[noisy(picture)] for picture in both], resolution_px)
        report("shaken by 15%", [[shaken(resolution_px, 0.15)(picture)] for picture in both], resolution_px)
    report("a sixth of the light", [[levels(1 / 6)(picture)] for picture in both], 64)
    report("light up to a tenth of contrast", [[levels(0.1, 230)(picture)] for picture in both], 64)
    for name, pictures in without_subject(rng).items():
        report(name, [[picture] for picture in pictures], 64)
    report("a small move, same background", [[first, second] for first, second in shots], 64)
    copies: dict[str, Change] = {
        "the same again": lambda picture: picture,
        "half the size": resized(0.5),
        "a quarter of the size, JPEG 50": chain(resized(0.25), jpeg(50)),
        "JPEG 30": jpeg(30),
        "brighter by 15%": levels(1.15),
        "brighter by 30%": levels(1.3),
        "darker by 20%": levels(0.8),
        "mirrored": ImageOps.mirror,
        "mirrored, JPEG 40, brighter by 10%": chain(ImageOps.mirror, jpeg(40), levels(1.1)),
        "cropped by 2% a side": lambda picture: ImageOps.crop(picture, round(0.02 * min(picture.size))),
    }
    for name, change in copies.items():
        report(name, [[picture, change(picture)] for picture in both], 64)


if __name__ == "__main__":
    main()
