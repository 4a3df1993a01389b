"""What is asked and what is shown: seeded, and photos and prompts, tuning and testing kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gallery import distractor_names
from instance_photos import as_the_trainer_sees, photo_backgrounds, write_photos
from prompts import DIVERSITY_SCENES, SCENES, instance_prompt, prior_objects, prior_pictures, subject_pictures
from protocol import DISTRACTORS, EXTRA_SEEDS, PHOTOS_PER_SUBJECT, PRIOR_OTHER_CLASS, PRIOR_SAME_CLASS, seed_for
from renders import renders_on

from enlight.models.backgrounds import BACKGROUNDS, PLAIN_COLOURS
from enlight.models.held_out import HELD_OUT_SUBJECTS, TEST_SUBJECTS, TUNING_SUBJECTS
from enlight.models.subjects import all_subjects, subject_named

SUBJECTS = (*TEST_SUBJECTS, *TUNING_SUBJECTS)
PHRASES = {background.name: background.phrases for background in BACKGROUNDS}


def test_nothing_is_tuned_on_the_subjects_of_the_table() -> None:
    assert set(TEST_SUBJECTS).isdisjoint(TUNING_SUBJECTS)
    assert len(set(TEST_SUBJECTS)) == len(set(TUNING_SUBJECTS)) == 20


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_photo_is_taken_where_a_prompt_asks_for_a_picture(subject: str) -> None:
    photos = photo_backgrounds(subject)
    assert len(set(photos)) == len(photos) == PHOTOS_PER_SUBJECT
    assert set(photos).isdisjoint(picture.background for picture in subject_pictures(subject))


def test_subjects_have_photos_on_different_backgrounds() -> None:
    assert len({tuple(photo_backgrounds(subject)) for subject in SUBJECTS}) > len(SUBJECTS) // 2


def test_photos_are_the_same_each_time_and_differ_from_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (as_the_trainer_sees(write_photos("owl", folder)) for folder in folders)
    np.testing.assert_array_equal(first, second)
    assert len({photo.tobytes() for photo in first}) == PHOTOS_PER_SUBJECT


def test_renders_for_another_purpose_are_others() -> None:
    one, again, other = (renders_on("owl", ["red"], purpose) for purpose in ("one", "one", "other"))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_twelve_backgrounds_of_both_kinds_in_words_that_the_base_was_taught() -> None:
    names = [name for name, _ in SCENES]
    assert len(set(names)) == 12
    assert sum(name in PLAIN_COLOURS for name in names) == 4
    for name, wording in SCENES:
        assert wording.endswith(tuple(PHRASES[name])), wording
    assert {wording.split("{thing}")[0] for _, wording in SCENES} == {"a ", "a photo of a ", "a big "}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_pictures_of_a_subject(subject: str) -> None:
    pictures = subject_pictures(subject)
    noun = subject_named(subject).kind
    assert [picture.background for picture in pictures if not picture.extra] == [name for name, _ in SCENES]
    assert sum(picture.extra for picture in pictures) == EXTRA_SEEDS * len(DIVERSITY_SCENES)
    assert len({picture.seed for picture in pictures}) == len(pictures)
    assert all(f"sks {noun}" in picture.prompt and picture.shows == subject for picture in pictures)
    assert instance_prompt(subject_named(subject)) == f"a sks {noun}"
    assert pictures == subject_pictures(subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_prior_objects_are_trained_ones_and_half_of_the_class(subject: str) -> None:
    objects = prior_objects(subject)
    assert len({thing.name for thing in objects}) == PRIOR_SAME_CLASS + PRIOR_OTHER_CLASS
    assert HELD_OUT_SUBJECTS.isdisjoint(thing.name for thing in objects)
    kind = subject_named(subject).kind
    of_class = sum(thing.kind == kind and not thing.held_out for thing in all_subjects())
    assert sum(thing.kind == kind for thing in objects) == min(PRIOR_SAME_CLASS, of_class)


def test_prior_prompts_name_the_object_and_the_background_but_not_the_identifier() -> None:
    pictures = prior_pictures("owl")
    assert len({picture.background for picture in pictures}) == len(pictures)
    for picture in pictures:
        assert picture.shows in picture.prompt
        assert "sks" not in picture.prompt.split()
        assert picture.prompt.endswith(tuple(PHRASES[picture.background]))


def test_distractors_are_trained_subjects() -> None:
    names = distractor_names()
    assert len(set(names)) == DISTRACTORS + 1
    assert HELD_OUT_SUBJECTS.isdisjoint(names)
    assert names == distractor_names()


def test_seeds_differ_by_purpose() -> None:
    assert seed_for("a", "b") == seed_for("a", "b")
    assert seed_for("a", "b") != seed_for("ab")
