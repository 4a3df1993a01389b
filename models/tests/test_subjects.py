from __future__ import annotations

import pytest

from enlight.models.compose import held_out_subject_indices, trained_subject_indices
from enlight.models.held_out import HELD_OUT_SUBJECTS, TEST_SUBJECTS, TUNING_SUBJECTS
from enlight.models.subjects import all_subjects, subject_named, with_article


def test_names_and_characters_are_unique() -> None:
    # Given the catalogue / When its names and characters are collected
    names = [subject.name for subject in all_subjects()]
    characters = [subject.character for subject in all_subjects()]
    # Then none repeats, and there are as many as the design asks
    assert len(set(names)) == len(names) == len(set(characters))
    assert 400 <= len(names) <= 900


def test_forty_held_out_subjects_are_in_the_catalogue() -> None:
    # Given the two lists / Then they are disjoint and every name can be drawn
    assert len(TEST_SUBJECTS) == len(TUNING_SUBJECTS) == 20
    assert len(HELD_OUT_SUBJECTS) == 40
    assert all(subject_named(name).held_out for name in HELD_OUT_SUBJECTS)


def test_trained_and_held_out_share_nothing() -> None:
    # Given the positions that training may show / Then the held-out names are not among them
    trained = {all_subjects()[index].name for index in trained_subject_indices()}
    assert not trained & HELD_OUT_SUBJECTS
    assert len(trained) + len(held_out_subject_indices()) == len(all_subjects())


def test_unknown_subject_is_refused() -> None:
    with pytest.raises(KeyError):
        subject_named("perpetual motion machine")


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("pizza", "a pizza"),
        ("owl", "an owl"),
        ("umbrella", "an umbrella"),
        ("unicorn", "a unicorn"),
        ("grapes", "grapes"),
        ("bus", "a bus"),
        ("wine glass", "a wine glass"),
        ("rhinoceros", "a rhinoceros"),
        ("nest with eggs", "a nest with eggs"),
    ],
)
def test_articles(noun: str, expected: str) -> None:
    assert with_article(noun) == expected
