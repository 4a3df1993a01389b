from __future__ import annotations

import torch

from enlight.models.bank import Bank
from enlight.models.compose import Composer, trained_subject_indices
from enlight.models.networks import build_vae
from enlight.models.settings import RecipeSettings
from enlight.models.train_vae import centre_latents, random_pictures, recolour, reconstruction_loss

_CPU = torch.device("cpu")


def test_centring_changes_latents_but_no_reconstruction(noise_bank: Bank, settings: RecipeSettings) -> None:
    # Given an autoencoder whose latents are neither centred nor alike in spread
    torch.manual_seed(0)
    vae = build_vae(settings)
    with torch.no_grad():
        vae.quant_conv.bias += torch.arange(float(len(vae.quant_conv.bias)))
        vae.quant_conv.weight[1] *= 4
    composer = Composer(noise_bank, settings, _CPU, trained_subject_indices())
    generator = torch.Generator().manual_seed(0)
    pixels = composer.random_batch(8, generator).pixels * 2 - 1
    with torch.no_grad():
        before = vae(pixels).sample
    # When they are centred
    centre_latents(vae, composer, generator, 8)
    # Then pictures come back as before, from latents with zero mean and one spread
    with torch.no_grad():
        torch.testing.assert_close(vae(pixels).sample, before, atol=1e-3, rtol=1e-3)
        latents = torch.cat(
            [vae.encode(composer.random_batch(8, generator).pixels * 2 - 1).latent_dist.mean for _ in range(4)]
        )
    spread = latents.std(dim=(0, 2, 3))
    assert (latents.mean(dim=(0, 2, 3)).abs() < 0.2 * spread).all()
    assert float(spread.max() / spread.min()) < 1.2


def test_reconstruction_loss_is_zero_for_equal_pictures_and_sees_lost_edges() -> None:
    # Given a picture of stripes, and the same with its mean only
    stripes = torch.zeros(1, 3, 16, 16)
    stripes[..., ::4] = 1.0
    flat = stripes.mean() * torch.ones_like(stripes)
    # Then equal pictures cost nothing, and lost edges cost more than the pixels' error alone
    assert float(reconstruction_loss(stripes, stripes, 1.0)) == 0.0
    assert float(reconstruction_loss(flat, stripes, 1.0)) > 1.2 * float((flat - stripes).abs().mean())


def test_recolouring_changes_only_a_share() -> None:
    pixels = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = recolour(pixels, torch.Generator().manual_seed(1), 0.25)
    share = (changed - pixels).abs().amax(dim=(1, 2, 3)).gt(1e-3).float().mean()
    assert 0.15 < float(share) < 0.35


def test_pictures_for_the_autoencoder(noise_bank: Bank, settings: RecipeSettings) -> None:
    composer = Composer(noise_bank, settings, _CPU, trained_subject_indices())
    pixels = random_pictures(composer, 6, torch.Generator().manual_seed(0), 0.3)
    assert pixels.shape == (6, 3, 64, 64)
