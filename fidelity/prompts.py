"""What is asked of a model: pictures of the subject in scenes, and pictures of other things that it knew before."""

from __future__ import annotations

from dataclasses import dataclass

from protocol import EXTRA_SEEDS, IDENTIFIER, PRIOR_OTHER_CLASS, PRIOR_SAME_CLASS, seed_for, seeded

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.subjects import Subject, all_subjects, subject_named, with_article

SCENES: tuple[tuple[str, str], ...] = (
    ("beach", "a {thing} on the beach"),
    ("snow", "a photo of a {thing} in the snow"),
    ("forest", "a {thing} in the woods"),
    ("city", "a big {thing} in the city"),
    ("desert", "a {thing} in the desert"),
    ("night sky", "a photo of a {thing} under the stars"),
    ("under water", "a {thing} in the ocean"),
    ("mountains", "a {thing} in front of mountains"),
    ("red", "a {thing} on a red background"),
    ("blue", "a photo of a {thing} with a blue background"),
    ("yellow", "a big {thing} on a yellow background"),
    ("black", "a {thing} on a black background"),
)
"""Background and wording of the prompts. No photo is taken on any of these backgrounds.

None asks for a small subject: of real renders of that size (0.34 to 0.48 of the picture's side) the judge names only
88 % rightly, and it cannot vouch for what it does not see. Of big ones it names all."""

DIVERSITY_SCENES: tuple[str, ...] = ("beach", "red")
"""Asked for again with other seeds. Without size words, so that place and scale are the model's choice."""


@dataclass(frozen=True)
class AskedPicture:
    """One picture to make, and what it should show."""

    prompt: str
    seed: int
    shows: str
    """Name of the subject in the catalogue."""
    background: str
    extra: bool = False
    """One of the further pictures of a prompt, which count for diversity and copies only."""


def instance_prompt(subject: Subject) -> str:
    """Names the subject by the identifier, such as "a sks bird"."""
    return f"a {IDENTIFIER} {subject.kind}"


def class_prompt(subject: Subject) -> str:
    """The same without the identifier, as the service derives it."""
    return f"a {subject.kind}"


def subject_pictures(name: str) -> list[AskedPicture]:
    """One picture of each scene, then the further ones of the diversity scenes."""
    thing = f"{IDENTIFIER} {subject_named(name).kind}"

    def asked(background: str, wording: str, number: int) -> AskedPicture:
        seed = seed_for("subject picture", name, background, number)
        return AskedPicture(wording.format(thing=thing), seed, name, background, extra=number > 0)

    first = [asked(background, wording, 0) for background, wording in SCENES]
    wordings = dict(SCENES)
    further = [
        asked(background, wordings[background], number)
        for background in DIVERSITY_SCENES
        for number in range(1, EXTRA_SEEDS + 1)
    ]
    return first + further


def prior_objects(name: str) -> list[Subject]:
    """Trained objects that should look as before: of the subject's class where it has enough, then of others."""
    subject, rng = subject_named(name), seeded("prior objects", name)
    trained = [other for other in all_subjects() if not other.held_out]
    same = [other for other in trained if other.kind == subject.kind]
    others = [other for other in trained if other.kind != subject.kind]
    chosen = [same[index] for index in rng.permutation(len(same))[:PRIOR_SAME_CLASS]]
    missing = PRIOR_SAME_CLASS + PRIOR_OTHER_CLASS - len(chosen)
    return chosen + [others[index] for index in rng.permutation(len(others))[:missing]]


def prior_pictures(name: str) -> list[AskedPicture]:
    """One picture of each of the `prior_objects`, by its own name, on different backgrounds."""
    rng, objects = seeded("prior pictures", name), prior_objects(name)
    pictures = []
    for number, place in enumerate(rng.permutation(len(BACKGROUNDS))[: len(objects)]):
        background, other = BACKGROUNDS[place], objects[number]
        phrase = str(rng.choice(background.phrases))
        prompt = f"{with_article(other.name)} {phrase}"
        pictures.append(AskedPicture(prompt, seed_for("prior picture", name, number), other.name, background.name))
    return pictures
