"""The demo's contact sheet: one HTML file with the pictures inside, and the same as one PNG."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from finishing import Finished
from PIL import Image, ImageDraw, ImageFont

TILE_PX = 128
GAP_PX = 8
LABEL_PX = 170
HEADER_PX = 34
FINISHED_PX = 330
PAGE_OF_MAKE_UP = "http://127.0.0.1:8050"
"""Where `make up` has the web page."""


@dataclass(frozen=True)
class Scene:
    """One prompt, its pictures before and after training, and their likeness to the subject."""

    name: str
    before: Sequence[bytes]
    after: Sequence[bytes]
    similarity_before: float
    similarity_after: float


def write_contact_sheet(
    folder: Path, photos: Sequence[bytes], scenes: Sequence[Scene], finished: Finished, instance_prompt: str
) -> Path:
    """Writes ``contact-sheet.html`` and ``contact-sheet.png`` into ``folder``; returns the HTML file."""
    (folder / "contact-sheet.png").write_bytes(_draw(photos, scenes, finished, instance_prompt))
    page = folder / "contact-sheet.html"
    page.write_text(_page(photos, scenes, finished, instance_prompt))
    return page


def _page(photos: Sequence[bytes], scenes: Sequence[Scene], finished: Finished, instance_prompt: str) -> str:
    rows = "\n".join(
        f"<tr><th>{html.escape(scene.name)}</th><td>{_images(scene.before, 'before training')}</td>"
        f"<td>{_images(scene.after, 'after training')}</td>"
        f"<td class=number>{scene.similarity_before:.2f} → <b>{scene.similarity_after:.2f}</b></td></tr>"
        for scene in scenes
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Enlight demo: {html.escape(instance_prompt)}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1280px; padding: 0 1rem; }}
  img {{ width: 112px; height: 112px; border-radius: 8px; margin: 3px; image-rendering: auto; }}
  table {{ border-collapse: collapse; }} th {{ text-align: left; font-weight: 500; padding-right: 1rem; }}
  td {{ padding: 4px 12px 4px 0; }} thead th {{ color: GrayText; font-size: 14px; }} .number {{ white-space: nowrap; }}
  .finished img {{ width: 320px; height: 320px; image-rendering: pixelated;
    background: repeating-conic-gradient(#ddd 0 25%, #fff 0 50%) 0 0 / 24px 24px; }}
</style>
<h1>Five photos in, pictures of their subject out</h1>
<p>The photos that <code>POST /v1/trainings</code> was given:</p>
<p>{_images(photos, "photo")}</p>
<p>Then <code>POST /inference</code> with “{html.escape(instance_prompt)} …”, beside what the base model made of the
same words before. Likeness is the judge network's cosine similarity to the photos (1 is the subject itself).</p>
<table><thead><tr><th>scene<th>before training<th>after training<th>likeness</thead>
{rows}
</table>
<h2>One of them, finished</h2>
<p>As it was generated; enlarged by realesrgan (<code>POST /realesrgan</code>); and cut out by bgrem
(<code>POST /remove-opacity</code>), its background now transparent.</p>
<p class=finished>{_figure(finished.generated, "generated")}{_figure(finished.upscaled, "enlarged")}
{_figure(finished.cut_out, "cut out")}</p>
<p>With photos of your own: <code>make up</code>, then <a href="{PAGE_OF_MAKE_UP}">{PAGE_OF_MAKE_UP}</a>.</p>
</html>
"""


def _images(files: Sequence[bytes], alternative: str) -> str:
    return "".join(
        f'<img alt="{alternative} {number}" src="data:image/png;base64,{base64.b64encode(file).decode()}">'
        for number, file in enumerate(files, start=1)
    )


def _figure(file: bytes, alternative: str) -> str:
    return f'<img alt="{alternative}" src="data:image/png;base64,{base64.b64encode(file).decode()}">'


def _draw(photos: Sequence[bytes], scenes: Sequence[Scene], finished: Finished, instance_prompt: str) -> bytes:
    columns = len(scenes[0].before)
    step = TILE_PX + GAP_PX
    width = LABEL_PX + max(2 * columns * step + 2 * GAP_PX, len(photos) * step) + GAP_PX
    height = HEADER_PX + step + HEADER_PX + len(scenes) * step + HEADER_PX + FINISHED_PX + 2 * GAP_PX
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)

    def tiles(files: Sequence[bytes], left: int, top: int) -> None:
        for index, file in enumerate(files):
            tile = Image.open(io.BytesIO(file)).convert("RGB").resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left + index * step, top))

    after_left = LABEL_PX + columns * step + 2 * GAP_PX
    draw.text((GAP_PX, HEADER_PX + TILE_PX // 2), "the photos", "black", font)
    tiles(photos, LABEL_PX, HEADER_PX)
    top = HEADER_PX + step
    draw.text((GAP_PX, top + 8), f"“{instance_prompt}” …", "black", font)
    draw.text((LABEL_PX, top + 8), "before training", "black", font)
    draw.text((after_left, top + 8), "after training", "black", font)
    top += HEADER_PX
    for scene in scenes:
        draw.text((GAP_PX, top + TILE_PX // 2 - 10), scene.name, "black", font)
        likeness = f"{scene.similarity_before:.2f} -> {scene.similarity_after:.2f}"
        draw.text((GAP_PX, top + TILE_PX // 2 + 10), likeness, "gray", font)
        tiles(scene.before, LABEL_PX, top)
        tiles(scene.after, after_left, top)
        top += step
    for column, (label, picture) in enumerate(_finished_tiles(finished)):
        left = LABEL_PX + column * (FINISHED_PX + GAP_PX)
        draw.text((left, top + 8), label, "black", font)
        sheet.paste(picture, (left, top + HEADER_PX))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _finished_tiles(finished: Finished) -> list[tuple[str, Image.Image]]:
    size = (FINISHED_PX, FINISHED_PX)
    generated = Image.open(io.BytesIO(finished.generated)).convert("RGB")
    upscaled = Image.open(io.BytesIO(finished.upscaled)).convert("RGB")
    cut_out = Image.open(io.BytesIO(finished.cut_out)).convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    on_checks = _checkerboard(FINISHED_PX)
    on_checks.paste(cut_out, mask=cut_out)
    return [
        (f"generated, {generated.width} px", generated.resize(size, Image.Resampling.NEAREST)),
        (f"enlarged, {upscaled.width} px", upscaled.resize(size, Image.Resampling.LANCZOS)),
        ("cut out", on_checks),
    ]


def _checkerboard(side_px: int, field_px: int = 16) -> Image.Image:
    """Shows where a picture is transparent."""
    rows, columns = np.indices((side_px, side_px)) // field_px
    return Image.fromarray(np.where((rows + columns) % 2, 255, 222).astype(np.uint8)).convert("RGB")
