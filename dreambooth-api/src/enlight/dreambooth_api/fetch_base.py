"""Command line: brings a base model's weights from the hub into the models folder, once, before the service needs them.

``python -m enlight.dreambooth_api.fetch_base stabilityai/stable-diffusion-2``
"""

from __future__ import annotations

import argparse
import sys

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.hub_snapshots import fetch_snapshot
from enlight.servicekit.registry_wheels import FetchError
from enlight.servicekit.settings import load_settings

# Weights as safetensors only (a pickle can run code), the fp32/fp16 duplicates of single-file checkpoints left out.
_WANTED = [
    "model_index.json",
    "*/config.json",
    "*/*_config.json",
    "tokenizer/*",
    "*/diffusion_pytorch_model.safetensors",
]
_WANTED += ["text_encoder/model.safetensors"]
_UNWANTED = ["safety_checker/*", "feature_extractor/*"]


def main(arguments: list[str] | None = None) -> int:
    """Downloads one base model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fetch_base", description=__doc__)
    parser.add_argument("name", help="base model as MODEL_NAME takes it, for example stabilityai/stable-diffusion-2")
    name = parser.parse_args(arguments).name

    settings = load_settings(Settings)
    catalogue = BaseCatalogue(settings.models_folder, revisions=settings.base_revisions, aliases=settings.base_aliases)
    try:
        base = catalogue.resolve(name, field="name")
    except ServiceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 -- a command line
        return 2
    if (base.folder / "model_index.json").is_file():
        print(f"{base.name} is already there: {base.folder}")  # noqa: T201
        return 0

    pinned = catalogue.pinned_revision(base.name)
    try:
        commit = fetch_snapshot(
            base.name, base.folder, revision=pinned, wanted=_WANTED, unwanted=_UNWANTED, required=["model_index.json"]
        )
    except FetchError as error:
        print(  # noqa: T201 -- a command line
            f"{error}\nRun the command again to go on where it stopped, or copy the model in diffusers' layout into "
            f"{base.folder}.",
            file=sys.stderr,
        )
        return 1
    print(f"{base.name} at commit {commit}: {base.folder}")  # noqa: T201
    if pinned is None:
        print(f'To pin it: DREAMBOOTH_API_BASE_REVISIONS={{"{base.name}": "{commit}"}}')  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
