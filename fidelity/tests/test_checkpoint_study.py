"""What a rule chooses, and that the losses of the self-check see what they are for."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from benchmark import pocket_base
from checkpoint_study import RULES, Score, SelfCheck, chosen, report
from personalised_model import PictureMaker
from renders import renders_on
from rich.console import Console


def score(step: int, photo: float, kept: float, of_class: float, both: float) -> Score:
    fidelities = {"both": both, "subject_fidelity": both, "prompt_fidelity": 100.0, "prior": 100.0, "likeness": 0.5}
    return Score("owl", step, photo, kept, of_class, fidelities)


SCORES = [score(10, 0.9, 0.8, 1.0, 20.0), score(20, 0.7, 0.75, 1.1, 60.0), score(30, 0.5, 0.9, 1.5, 50.0)]


def test_each_rule_goes_by_its_own_losses() -> None:
    steps = {name: chosen(SCORES, rule).step for name, rule in RULES.items()}
    assert steps == {
        "last": 30,
        "photos": 30,
        "photos and class": 20,
        "kept photo": 20,
        "kept photo and class": 10,
        "best (unknowable)": 20,
    }


def test_rules_are_reported_against_the_last_step() -> None:
    lines = report({"owl": SCORES, "teapot": SCORES}, Console(file=io.StringIO()))
    gains = {line["rule"]: line["gain"] for line in lines}
    assert gains["last"].startswith("+0.0")
    assert gains["kept photo"].startswith("+10.0")
    assert gains["kept photo and class"].startswith("-30.0")


@torch.no_grad()
def test_the_loss_is_the_same_twice_and_greater_for_weights_that_were_spoilt() -> None:
    torch.manual_seed(0)
    maker = PictureMaker(pocket_base(), torch.device("cpu"))
    check = SelfCheck(maker, "owl")
    photos = renders_on("owl", ["red", "beach"], "test")
    latents = check.photo_latents(photos)
    assert float(latents.std()) == pytest.approx(1.0, abs=0.5)
    assert not np.allclose(latents[0], latents[1])
    loss = check.loss(latents, "a bird on the beach")
    assert check.loss(latents, "a bird on the beach") == loss
    for parameter in maker.pipeline.unet.parameters():
        parameter.add_(0.3 * parameter.abs().mean() * torch.randn_like(parameter))
    assert check.loss(latents, "a bird on the beach") > 1.1 * loss
