"""Photos judged before a training: what a careful person would say about them. Nothing is refused here, or dropped.

The thresholds were chosen on made examples: 12 photos of scikit-image and 102 drawn photos of the tuning subjects on
every background of the pocket base, as they are and degraded; ``benchmarks/photo_preflight_rates.py`` repeats it.

- Wrongly flagged: none at 64 pixels, also with JPEG 50 or grain of 4 levels; at 768 one, a soft micrograph, as blurred.
- ``blurred``, by the blur's standard deviation as a share of the side: at 64 pixels 18 % of those with 2 %, 79 % with
  3 %, 100 % with 4 % (94 % under grain); at 768 pixels 58 % with 0.25 %, 98 % with 0.5 %, 100 % with 1 %. Blur along
  one direction, as of a shaken camera, leaves some edges sharp: a smear over 15 % of the side is seen in 17 % at 64
  pixels and in 88 % at 768.
- ``near_duplicate``: every copy that is half the size, JPEG 30, 15 % brighter, 20 % darker or mirrored, 96 % of those
  at a quarter of the size and JPEG 50, 95 % of those 30 % brighter; 56 % of those cropped by 2 % a side, which is not
  promised. No pair that differs by a move of less than a tenth of the picture, 8 degrees and 5 % of size.
- ``no_visible_subject``: every plain colour, plaster wall, black frame and noise; of gradients all but a steep bell of
  light. A photo of nothing but gravel or lawn is flagged, too.
- ``too_dark`` and ``too_bright``: every photo with a sixth of its light, or a tenth of its contrast next to white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from enlight.dreambooth_api.photo_looks import PhotoLook, difference

WarningCode = Literal[
    "too_few",
    "too_small",
    "cropped",
    "too_dark",
    "too_bright",
    "no_visible_subject",
    "blurred",
    "near_duplicate",
]
WARNING_CODES: tuple[WarningCode, ...] = get_args(WarningCode)

FEW_PHOTOS = 3
CROPPED_RATIO = 2.0
"""Long side to short side. Beyond it the centre square is less than half of the photo; 16 : 9 is below it."""
DARK_LEVEL = 50
"""Nothing in the photo brighter than this level of 255: the subject is learnt as a silhouette."""
BRIGHT_LEVEL = 205
"""Nothing in the photo darker than this. A white background alone does not do it."""
LEAST_CONTRAST_LEVELS = 10.0
LEAST_COHERENCE = 0.3
BLURRED_PX = 1.3
SAME_PICTURE_DIFFERENCE = 0.36


@dataclass(frozen=True)
class PhotoWarning:
    """One reason, and the photos that it is about."""

    code: WarningCode
    """Stable; for programs."""
    message: str
    """What is the matter and what to do next; for people, may change."""
    photos: tuple[int, ...] = ()
    """Places in the request's list, from 0; none when the warning is about their number."""


def photo_warnings(looks: Sequence[PhotoLook], resolution_px: int, *, field: str) -> tuple[PhotoWarning, ...]:
    """Everything that deserves a word about the photos of one training.

    One warning per reason, which names all its photos; one `near_duplicate` per group of equal pictures. A photo
    without a visible subject is not judged for blur or likeness.

    Args:
        looks: the photos in the request's order, looked at for ``resolution_px``.
        resolution_px: the training's resolution.
        field: the request's field with the photos; messages name a photo as errors do, ``photos[2]``.
    """
    return tuple(_warnings(looks, resolution_px, field))


def _warnings(looks: Sequence[PhotoLook], resolution_px: int, field: str) -> Iterator[PhotoWarning]:
    def about(code: WarningCode, photos: Sequence[int], text: str) -> PhotoWarning:
        return PhotoWarning(code, f"{', '.join(f'{field}[{index}]' for index in photos)}: {text}", tuple(photos))

    def those(is_so: Callable[[PhotoLook], bool], among: Sequence[int]) -> list[int]:
        return [index for index in among if is_so(looks[index])]

    if len(looks) < FEW_PHOTOS:
        count = f"{len(looks)} photo{'s' if len(looks) > 1 else ''}"
        yield PhotoWarning("too_few", f"Only {count}: 5 to 20 give a better model.")

    everything = range(len(looks))
    without_subject = those(_no_visible_subject, everything)
    judged = [index for index in everything if index not in without_subject]
    reasons: tuple[tuple[WarningCode, list[int], str], ...] = (
        (
            "too_small",
            those(lambda look: min(look.width_px, look.height_px) < resolution_px, everything),
            f"the short side has less than the training's {resolution_px} pixels, so that the picture is enlarged. "
            "Send a larger one, or train at a smaller resolution.",
        ),
        (
            "cropped",
            those(_loses_half, everything),
            "more than twice as long as wide. Only the centre square is trained on: crop the photo around the subject.",
        ),
        (
            "no_visible_subject",
            without_subject,
            "nothing stands out in the centre square: a plain surface, a gradient or noise. Send a photo that the "
            "subject fills for a good part.",
        ),
        (
            "too_dark",
            those(lambda look: look.bright_level < DARK_LEVEL, everything),
            "almost black throughout. Brighten it, or send a photo taken in better light.",
        ),
        (
            "too_bright",
            those(lambda look: look.dark_level > BRIGHT_LEVEL, everything),
            "almost white throughout. Send a photo with a shorter exposure.",
        ),
        (
            "blurred",
            those(lambda look: look.blur_px is not None and look.blur_px > BLURRED_PX, judged),
            f"blurred, even at the training's {resolution_px} pixels. Send a sharper photo in its place.",
        ),
    )
    for code, photos, text in reasons:
        if photos:
            yield about(code, photos, text)
    for group in _groups_of_one_picture(looks, judged):
        yield about("near_duplicate", group, "nearly the same picture. Keep one, and add different shots.")


def _loses_half(look: PhotoLook) -> bool:
    return max(look.width_px, look.height_px) > CROPPED_RATIO * min(look.width_px, look.height_px)


def _no_visible_subject(look: PhotoLook) -> bool:
    return look.contrast_levels < LEAST_CONTRAST_LEVELS or look.coherence < LEAST_COHERENCE


def _groups_of_one_picture(looks: Sequence[PhotoLook], among: Sequence[int]) -> list[list[int]]:
    """Groups of two and more that are chained by likeness, each in the request's order."""
    group_of = {index: [index] for index in among}
    for first, second in combinations(among, 2):
        one, other = group_of[first], group_of[second]
        if one is not other and difference(looks[first], looks[second]) < SAME_PICTURE_DIFFERENCE:
            one += other
            group_of |= dict.fromkeys(other, one)
    return [sorted(group) for index, group in group_of.items() if len(group) > 1 and min(group) == index]
