"""Command line: brings the model's weights from the hub into the weights folder, once, before the service needs them.

``python -m enlight.upsampler.fetch_model``
"""

from __future__ import annotations

import argparse
import sys

from enlight.servicekit.hub_snapshots import fetch_snapshot
from enlight.servicekit.registry_wheels import FetchError
from enlight.servicekit.settings import load_settings
from enlight.upsampler.settings import Settings
from enlight.upsampler.weights import CONFIGURATIONS, MODEL, REVISION, TOKENIZER, WEIGHTS, ModelFolder


def main(arguments: list[str] | None = None) -> int:
    """Downloads the model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fetch_model", description=__doc__)
    parser.add_argument("--revision", default=REVISION, help="another commit than the one that is known to work")
    revision = parser.parse_args(arguments).revision

    folder = ModelFolder(load_settings(Settings).weights_folder)
    if not folder.missing():
        print(f"{MODEL} is already there: {folder.path}")  # noqa: T201 -- a command line
        return 0
    try:
        commit = fetch_snapshot(
            MODEL,
            folder.path,
            revision=revision,
            wanted=[*CONFIGURATIONS, *WEIGHTS, "tokenizer/*"],
            required=[*CONFIGURATIONS, *TOKENIZER, *WEIGHTS],
        )
    except FetchError as error:
        print(  # noqa: T201
            f"{error}\nRun the command again to go on where it stopped, or copy the model in diffusers' layout "
            f"(safetensors) into {folder.path}.",
            file=sys.stderr,
        )
        return 1
    print(f"{MODEL} at commit {commit}: {folder.path}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
