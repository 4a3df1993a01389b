"""A contact sheet: per subject one row of photos and pictures."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from benchmark import Measurement
from PIL import Image, ImageDraw, ImageFont
from prompts import SCENES

from enlight.models.subjects import subject_named

PHOTOS_SHOWN = 2
TILE_PX = 96
GAP_PX = 6
NAME_PX = 132
HEADING_PX = 64
_FONT_PX = 13


def write_contact_sheet(path: Path, measurement: Measurement, row: str) -> Path:
    """Draws the photos and the pictures of every subject in one row of the table."""
    jobs = [job for job in measurement.jobs if job.row == row]
    step, gap = TILE_PX + GAP_PX, 2 * GAP_PX
    width = NAME_PX + (PHOTOS_SHOWN + len(SCENES)) * step + gap
    sheet = Image.new("RGB", (width, HEADING_PX + len(jobs) * step), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    lefts = [NAME_PX + number * step for number in range(PHOTOS_SHOWN)]
    lefts += [NAME_PX + gap + (PHOTOS_SHOWN + number) * step for number in range(len(SCENES))]
    headings = ["photos"] + [""] * (PHOTOS_SHOWN - 1) + [wording.format(thing="…") for _, wording in SCENES]
    for left, heading in zip(lefts, headings, strict=True):
        draw.multiline_text((left, 6), textwrap.fill(heading, 15), "black", font, spacing=2)
    for number, job in enumerate(jobs):
        top = HEADING_PX + number * step
        photos, pictures = measurement.files.pictures(job)
        name = f"{job.subject}\n“sks {subject_named(job.subject).kind}”"
        draw.multiline_text((GAP_PX, top + TILE_PX // 3), name, "black", font, spacing=3)
        for left, tile in zip(lefts, [*photos[:PHOTOS_SHOWN], *pictures[: len(SCENES)]], strict=True):
            sheet.paste(_enlarged(tile), (left, top))
    sheet.save(path, optimize=True)
    return path


def _enlarged(tile: np.ndarray) -> Image.Image:
    return Image.fromarray(tile).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
