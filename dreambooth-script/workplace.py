"""Where the two scripts read and write: INPUT/, OUTPUT/ and Generation/ in the folder in which they are called."""

from __future__ import annotations

from pathlib import Path

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.settings import load_settings

INPUT, OUTPUT, GENERATION = Path("INPUT"), Path("OUTPUT"), Path("Generation")
PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif"})
MODELS_FOLDER = Path(__file__).resolve().parents[1] / "models"
"""The project's own; a copy of the scripts elsewhere is told by DREAMBOOTH_API_MODELS_FOLDER."""


class WorkplaceError(Exception):
    """Something that the user has to put in place first; the message says what and how."""


def require_folders(*folders: Path) -> None:
    """Checks that the folders are here.

    Raises:
        WorkplaceError: one is not.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise WorkplaceError(
            f"There is no folder {' and no folder '.join(missing)} in {Path.cwd()}. Make all three with "
            f"`mkdir -p {INPUT} {OUTPUT} {GENERATION}`, and put the photos into {INPUT}/."
        )


def find_photos() -> list[Path]:
    """The photos in INPUT/ by name; files of other kinds are left out.

    Raises:
        WorkplaceError: there is none.
    """
    photos = sorted(path for path in INPUT.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    if not photos:
        raise WorkplaceError(
            f"There is no photo in {INPUT.absolute()}; put some there (5 to 20 are best) whose names end in "
            f"{', '.join(sorted(PHOTO_SUFFIXES))}."
        )
    return photos


def read_settings() -> Settings:
    """dreambooth-api's settings with OUTPUT/ as data folder; variables DREAMBOOTH_API_* hold here as they do there.

    Raises:
        SettingsError: a variable is unknown or out of range.
    """
    settings = load_settings(Settings)
    here = {"data_folder": OUTPUT.absolute()}
    if "models_folder" not in settings.model_fields_set:
        here["models_folder"] = MODELS_FOLDER
    return settings.model_copy(update=here)


def base_models(settings: Settings) -> BaseCatalogue:
    """The base models that the settings allow."""
    return BaseCatalogue(settings.models_folder, revisions=settings.base_revisions, aliases=settings.base_aliases)
