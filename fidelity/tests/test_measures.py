"""The measures on pictures whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark import JUDGE_FOLDER
from gallery import Gallery, distractor_names, reference_vector
from instance_photos import as_the_trainer_sees, write_photos
from intervals import bootstrap_mean
from picture_measures import mean_pairwise_rmse, nearest_photo_rmse, rmse_matrix
from prompts import AskedPicture, subject_pictures
from protocol import COPY_RMSE, DISTRACTORS
from renders import renders_anywhere, renders_on
from subject_jobs import diversity
from summary import estimates, subject_measures

from enlight.models.judge import Judge


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(JUDGE_FOLDER)


@pytest.fixture(scope="module")
def gallery(judge: Judge) -> Gallery:
    """Real references of some; the other distractors stand somewhere else, which is quicker than drawing them."""
    rng = np.random.default_rng(0)
    names = distractor_names()
    strangers = rng.standard_normal((len(names), 128)).astype(np.float32)
    references = dict(zip(names, strangers / np.linalg.norm(strangers, axis=1, keepdims=True), strict=True))
    return Gallery(references | {name: reference_vector(judge, name) for name in ("owl", "teapot", *names[:20])})


def test_a_subject_is_found_in_real_renders_of_it_and_of_no_other(judge: Judge, gallery: Gallery) -> None:
    owls = judge.subject_embedding(renders_anywhere("owl", 6, "test")[0])
    assert [sighting.nearest for sighting in gallery.sight(owls, "owl")] == ["owl"] * 6
    assert min(sighting.likeness for sighting in gallery.sight(owls, "owl")) > 0.5
    stranger = distractor_names()[0]
    others = judge.subject_embedding(renders_anywhere(stranger, 6, "test")[0])
    assert {sighting.nearest for sighting in gallery.sight(others, "owl")} == {stranger}
    assert max(sighting.likeness for sighting in gallery.sight(others, "owl")) < 0.5


def test_a_target_that_is_a_distractor_too_stands_against_as_many_others() -> None:
    names = distractor_names()
    corner = np.eye(DISTRACTORS + 2, dtype=np.float32)
    gallery = Gallery({name: corner[number] for number, name in enumerate([*names, "owl"])})
    # The last name of the list is in nobody's way but where another one of it is the target.
    assert gallery.sight(corner[[DISTRACTORS]], "owl")[0].nearest == "owl"
    assert gallery.sight(corner[[DISTRACTORS]], names[0])[0].nearest == names[DISTRACTORS]


def test_rmse_is_in_levels_from_0_to_1() -> None:
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    grey = np.full((1, 4, 4, 3), 51, np.uint8)
    np.testing.assert_allclose(rmse_matrix(black, np.concatenate([black, grey, white])), [[0.0, 0.2, 1.0]])
    assert mean_pairwise_rmse(np.concatenate([black, black, white])) == pytest.approx(2 / 3)


def test_copies_are_near_a_photo_and_the_subject_elsewhere_is_not(tmp_path: Path) -> None:
    photos = as_the_trainer_sees(write_photos("owl", tmp_path))
    noisy = np.clip(photos + np.random.default_rng(0).normal(0, 8, photos.shape), 0, 255).astype(np.uint8)
    assert (nearest_photo_rmse(noisy, photos) < COPY_RMSE).all()
    assert (nearest_photo_rmse(renders_anywhere("owl", 8, "test")[0], photos) > COPY_RMSE).all()


def asked_for_diversity() -> tuple[tuple[AskedPicture, ...], list[int]]:
    asked = tuple(subject_pictures("owl"))
    return asked, [row for row, picture in enumerate(asked) if picture.background == "beach"]


def test_pictures_that_are_all_alike_have_no_diversity_and_real_renders_have_all() -> None:
    asked, rows = asked_for_diversity()
    pictures = np.zeros((len(asked), 64, 64, 3), np.uint8)
    alike = diversity(asked, pictures)
    assert [spread["rmse"] for spread in alike] == [0.0, 0.0]
    assert min(spread["rmse_of_renders"] for spread in alike) > 0.1
    pictures[rows] = renders_on("owl", ["beach"] * len(rows), "test")
    beach = next(spread for spread in diversity(asked, pictures) if spread["background"] == "beach")
    assert 0.6 < beach["rmse"] / beach["rmse_of_renders"] < 1.6


def test_no_diversity_where_prompts_were_asked_for_once() -> None:
    asked, _ = asked_for_diversity()
    once = tuple(picture for picture in asked if not picture.extra)
    assert diversity(once, np.zeros((len(once), 64, 64, 3), np.uint8)) == []


def picture(*, subject: bool, place: bool, copied: bool = False, extra: bool = False) -> dict[str, Any]:
    return {
        "shows": "owl",
        "nearest": "owl" if subject else "teapot",
        "background": "red",
        "named_background": "red" if place else "blue",
        "photo_rmse": 0.5 * COPY_RMSE if copied else 2 * COPY_RMSE,
        "likeness": 0.8 if subject else 0.0,
        "extra": extra,
    }


def result(pictures: list[dict[str, Any]], prior: list[dict[str, Any]], *, trained: bool) -> dict[str, Any]:
    return {
        "pictures": pictures,
        "prior": prior,
        "diversity": [{"rmse": 0.1, "rmse_of_renders": 0.2}, {"rmse": 0.3, "rmse_of_renders": 0.2}] if trained else [],
        "training": {"train_s": 3.0, "total_s": 4.0} if trained else None,
    }


def test_measures_of_a_subject() -> None:
    right = picture(subject=True, place=True)
    wrong = picture(subject=False, place=True)
    lost = picture(subject=True, place=False)
    more = picture(subject=False, place=False, copied=True, extra=True)
    base = result([wrong], [right, right, wrong, right], trained=False)
    trained = result([right, lost, wrong, right, more], [right, wrong, wrong, right], trained=True)
    values = subject_measures(trained, base)
    assert values == pytest.approx(
        {
            "subject_fidelity": 75,
            "likeness": 0.6,
            "prompt_fidelity": 75,
            "both": 50,
            "copies": 20,
            "prior": 50,
            "prior_change": -25,
            "diversity": 100,
            "train_s": 3,
            "total_s": 4,
        }
    )
    assert {"prior_change", "diversity", "train_s"}.isdisjoint(subject_measures(base, base))


def test_an_interval_covers_what_it_should_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        estimate = bootstrap_mean(rng.normal(5.0, 2.0, 20).tolist())
        covered += estimate.low <= 5.0 <= estimate.high
    # 93 are to be expected of 20 values; a 90 % or a 99 % interval would be seen by its width below.
    assert 85 <= covered <= 99
    sample = np.linspace(0, 1, 20)
    estimate = bootstrap_mean(sample.tolist())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * sample.std() / math.sqrt(20), rel=0.05)
    assert estimate == bootstrap_mean(sample.tolist())


def test_intervals_of_one_subject_and_of_none() -> None:
    assert math.isnan(bootstrap_mean([1.0]).low)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])


def test_estimates_are_over_subjects() -> None:
    found = estimates([{"both": 0.0, "copies": 5.0}, {"both": 100.0, "copies": 5.0}])
    assert found["both"].mean == 50
    assert (found["both"].low, found["both"].high) == (0, 100)
    assert (found["copies"].low, found["copies"].high) == (5, 5)
