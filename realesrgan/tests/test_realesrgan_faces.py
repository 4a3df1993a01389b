"""Faces: found, brought upright, laid back without a seam."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from realesrgan_pictures import sample
from realesrgan_weights import real_weights
from spandrel.architectures.GFPGAN import GFPGAN

from enlight.realesrgan.faces import FaceFinder, restore_faces
from enlight.realesrgan.models import FACE_DETECTOR, FACE_RESTORER
from enlight.realesrgan.networks import Networks
from enlight.realesrgan.pure.faces import (
    CROP_PX,
    TEMPLATE,
    Face,
    aligned_crop,
    alignment,
    distinct,
    feather_mask,
    paste_back,
    similarity,
    similarity_scale,
)
from enlight.realesrgan.pure.sizes import Size
from enlight.servicekit.errors import CorruptModel
from enlight.servicekit.weight_files import WeightFolder

CPU = torch.device("cpu")
EYES_AND_MOUTH = np.array([[203.0, 101], [246, 103], [222, 121], [203, 141], [243, 142]])
"""Of the astronaut, read off the picture."""


def finder() -> FaceFinder:
    return FaceFinder(Networks(real_weights(), device=CPU, resident=1))


def placed(scale: float, angle: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """The template's points somewhere in a picture."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - 256) @ turn.T + shift


@pytest.mark.parametrize("angle", [0, 0.5, -2.0, np.pi])
@pytest.mark.parametrize("scale", [0.05, 0.4, 3.0])
def test_a_similarity_is_found_again(scale: float, angle: float) -> None:
    landmarks = placed(scale, angle, (300, 200))
    matrix = alignment(landmarks)
    assert np.abs(landmarks @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE).max() < 1e-9
    assert similarity_scale(matrix) == pytest.approx(1 / scale)


def test_a_similarity_is_the_best_in_the_least_squares_sense_and_no_reflection() -> None:
    generator = np.random.default_rng(0)
    source = generator.normal(size=(5, 2))
    target = source * (-1, 1) + 0.1 * generator.normal(size=(5, 2))  # mirrored
    matrix = similarity(source, target)
    assert np.linalg.det(matrix[:, :2]) > 0

    def cost(candidate: NDArray[np.float64]) -> float:
        return float(((source @ candidate[:, :2].T + candidate[:, 2] - target) ** 2).sum())

    for _ in range(200):
        a, b, x, y = generator.normal(size=4) * 0.05
        assert cost(matrix + np.array([[a, -b, x], [b, a, y]])) >= cost(matrix)


@pytest.mark.parametrize("angle", [0, 0.3, -1.2])
@pytest.mark.parametrize("enlargement", [1, 4])
def test_a_face_that_is_only_brought_upright_and_back_changes_nothing(angle: float, enlargement: int) -> None:
    """The round trip over the alignment: its error is that of two interpolations, not of a shift."""
    base = np.asarray(cv2.GaussianBlur(sample("astronaut"), (0, 0), 3), np.uint8)
    landmarks = placed(0.4, angle, (230, 260))
    canvas = np.asarray(cv2.resize(base, None, fx=enlargement, fy=enlargement, interpolation=cv2.INTER_CUBIC), np.uint8)
    before = canvas.astype(int)
    crop = aligned_crop(base.astype(np.float32) / np.float32(255), landmarks)
    paste_back(canvas, crop, landmarks, Size(*base.shape[:2]))
    difference = np.abs(canvas.astype(int) - before)
    assert difference.max() <= 3
    shifted = np.abs(np.roll(before, enlargement, axis=1) - before)[300:500, 300:500]
    assert difference[300:500, 300:500].mean() < 0.1 * shifted.mean(), "a shift by one pixel would be seen"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [0.03, 0.2, 1.0, 2.5])
def test_a_pasted_face_fades_in(scale: float, dtype: Any) -> None:
    highest = int(np.iinfo(dtype).max)
    canvas = np.zeros((600, 600, 3), dtype)
    landmarks = placed(scale / 2, 0.4, (150, 140))
    paste_back(canvas, np.ones((CROP_PX, CROP_PX, 3), np.float32), landmarks, Size(300, 300))
    side = scale * CROP_PX
    middle = canvas[(140 * 2) - 1 : (140 * 2) + 2, (150 * 2) - 1 : (150 * 2) + 2]
    assert middle.max() > 0.95 * highest
    steps = np.abs(np.diff(canvas.astype(float), axis=0)).max() / highest
    assert steps < 1.5 / (80 * scale) + 2 / 255 + (0.5 if side < 20 else 0), "no step that is steeper than the feather"


def test_a_face_that_shrinks_has_no_moire() -> None:
    """Fine lines become the grey that they are from afar."""
    canvas = np.zeros((300, 300, 3), np.uint8)
    lines = np.zeros((CROP_PX, CROP_PX, 3), np.float32)
    lines[:, ::2] = 1
    paste_back(canvas, lines, placed(0.13, 0.05, (150, 150)), Size(300, 300))
    middle = canvas[140:160, 140:160].astype(int)
    assert np.abs(middle - 127).max() < 30


def test_a_mask_ends_in_nothing_and_has_no_crease() -> None:
    mask = feather_mask()
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
    assert mask[256, 256] == 1
    for landmark in TEMPLATE.round().astype(int):
        assert mask[landmark[1], landmark[0]] == 1, "eyes and mouth are the restored ones"
    assert np.abs(np.diff(mask, n=2, axis=0)).max() < 0.002


@pytest.mark.parametrize("centre", [(0, 0), (299, 150), (-80, 100), (5000, 5000)])
def test_a_face_at_the_edge_or_beyond_it_is_cut_there(centre: tuple[int, int]) -> None:
    canvas = np.zeros((300, 300, 3), np.uint8)
    landmarks = placed(0.3, 0.1, centre)
    crop = aligned_crop(np.ones((300, 300, 3), np.float32), landmarks)
    assert crop.shape == (CROP_PX, CROP_PX, 3)
    paste_back(canvas, crop, landmarks, Size(300, 300))
    assert (canvas.max() > 0) == (max(map(abs, centre)) < 1000)


def test_a_face_that_was_found_twice_is_one_face() -> None:
    face, nearby = Face(EYES_AND_MOUTH, 0.9), Face(EYES_AND_MOUTH + 5, 0.95)
    far = Face(EYES_AND_MOUTH + 100, 0.85)
    assert distinct([face, nearby, far]) == [nearby, far]


def test_the_astronauts_face_is_found_where_it_is() -> None:
    (face,) = finder().find(sample("astronaut"))
    assert np.abs(face.landmarks - EYES_AND_MOUTH).max() < 8
    assert face.score > 0.85
    assert face.landmarks[0, 0] < face.landmarks[1, 0], "the left eye of the picture comes first"
    crop = aligned_crop(sample("astronaut").astype(np.float32) / np.float32(255), face.landmarks)
    matrix = alignment(face.landmarks)
    assert np.abs(face.landmarks @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE).max() < 25
    (again,) = finder().find(np.rint(np.clip(crop, 0, 1) * 255).astype(np.uint8)[::2, ::2].copy())
    assert np.abs(again.landmarks * 2 - TEMPLATE).max() < 30, "in the crop the face lies as in the template"


@pytest.mark.parametrize("side", [60, 130, 1500])
def test_small_and_large_copies_of_a_face_are_found(side: int) -> None:
    photo = np.ascontiguousarray(sample("astronaut")[20:276, 96:352])
    small = np.asarray(cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    found = finder().find(small)
    # Of 1500 pixels the face fills more than the network's square: its own detail is better.
    assert len(found) == (0 if side == 1500 else 1)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (20, 20)])
def test_there_is_no_face_in_a_picture_that_is_too_small(size: tuple[int, int]) -> None:
    assert finder().find(np.full((*size, 3), 128, np.uint8)) == []


def test_there_is_no_face_in_a_cup_of_coffee() -> None:
    assert finder().find(sample("coffee")) == []


@pytest.fixture(scope="module")
def restoring_networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """The real detector, and GFPGAN's full architecture with random weights (350 MB)."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = GFPGAN(
        out_size=512,
        num_style_feat=512,
        channel_multiplier=2,
        decoder_load_path=None,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=1,
        sft_half=True,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() == 1:  # how much noise counts: nothing in a network that was never trained
                parameter.fill_(0.5)
    torch.save({"params_ema": network.state_dict()}, folder / FACE_RESTORER.name)
    (folder / FACE_DETECTOR.name).write_bytes(real_weights().find(FACE_DETECTOR).read_bytes())
    found = hashlib.sha256((folder / FACE_RESTORER.name).read_bytes()).hexdigest()
    weights = WeightFolder(folder, setting="REALESRGAN_WEIGHTS_FOLDER", sha256={FACE_RESTORER.name: found})
    return Networks(weights, device=CPU, resident=1)


def test_gfpgan_changes_the_face_and_nothing_else_and_always_alike(restoring_networks: Networks) -> None:
    photo = np.ascontiguousarray(sample("astronaut")[0:300, 80:380])
    faces = FaceFinder(restoring_networks).find(photo)
    assert len(faces) == 1
    enlarged = np.asarray(cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
    results = []
    with torch.inference_mode():
        for _ in range(2):
            canvas = enlarged.copy()
            restore_faces(restoring_networks, faces, photo, canvas, device=CPU, check=lambda: None)
            results.append(canvas)
    assert (results[0] == results[1]).all(), "the noise is the stored one"
    changed = (results[0] != enlarged).any(axis=2)
    eyes = (faces[0].landmarks[:2] * 2).astype(int)
    assert all(changed[y - 5 : y + 5, x - 5 : x + 5].mean() > 0.9 for x, y in eyes)
    side = faces[0].crop_side_px * 2
    assert changed.sum() <= side**2
    assert not changed[:, -60:].any()


def test_a_picture_without_faces_stays_as_it_is(restoring_networks: Networks) -> None:
    canvas = np.full((20, 20, 3), 7, np.uint8)
    restore_faces(restoring_networks, [], canvas, canvas, device=CPU, check=lambda: None)
    assert (canvas == 7).all()


def test_the_detectors_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / FACE_DETECTOR.name).write_bytes(b"not a network")
    weights = WeightFolder(tmp_path, setting="REALESRGAN_WEIGHTS_FOLDER")
    with pytest.raises(CorruptModel):
        FaceFinder(Networks(weights, device=CPU, resident=1)).find(np.zeros((50, 50, 3), np.uint8))
