"""Command line: brings a base model's weights from the hub into the models folder, once, before the service needs them.

``python -m enlight.dreambooth_api.fetch_base stabilityai/stable-diffusion-2``
"""

from __future__ import annotations

import argparse
import sys

from enlight.dreambooth_api.bases import REVISION_FILE, BaseCatalogue
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.errors import ServiceError
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
_UNWANTED = ["safety_checker/*", "feature_extractor/*", "*.bin", "*.ckpt", "*.pt", "*.msgpack"]


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

    # Imported here: the settings and the allow-list must be checkable where the hub's client is not installed.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    pinned = catalogue.pinned_revision(base.name)
    try:
        commit = pinned or HfApi().model_info(base.name).sha
        partial = base.folder.with_name(base.folder.name + ".partial")
        snapshot_download(
            base.name, revision=commit, local_dir=partial, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except (HfHubHTTPError, OSError) as error:
        print(  # noqa: T201
            f"could not fetch {base.name} from the hub: {error}\nRun the command again to go on where it stopped, or "
            f"copy the model in diffusers' layout into {base.folder}.",
            file=sys.stderr,
        )
        return 1
    (partial / REVISION_FILE).write_text(f"{commit}\n")
    partial.rename(base.folder)
    print(f"{base.name} at commit {commit}: {base.folder}")  # noqa: T201
    if pinned is None:
        print(f'To pin it: DREAMBOOTH_API_BASE_REVISIONS={{"{base.name}": "{commit}"}}')  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
