"""Models from the Hugging Face hub: one commit of a repository into a folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enlight.servicekit.registry_wheels import FetchError

COMMIT_FILE = "revision.txt"
"""Written into the folder: the commit that lies there."""
UNWANTED = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.msgpack", "*.py", "*.onnx")
"""Never fetched: pickles and programs can run code, and nothing here reads the others."""


def recorded_commit(folder: Path) -> str | None:
    """The commit that `fetch_snapshot` brought into ``folder``; None where it did not."""
    record = folder / COMMIT_FILE
    return record.read_text(encoding="utf-8").strip() if record.is_file() else None


def fetch_snapshot(
    repository: str,
    folder: Path,
    *,
    revision: str | None,
    wanted: Sequence[str],
    unwanted: Sequence[str] = (),
    required: Sequence[str] = (),
) -> str:
    """Downloads the files of ``repository`` that match ``wanted`` into ``folder``; returns the commit.

    Interrupted, it leaves ``<folder>.partial``, from where the next call goes on.

    Args:
        repository: As in ``stabilityai/stable-diffusion-x4-upscaler``.
        folder: Must not exist; appears when everything is there.
        revision: Commit; None for the newest.
        wanted: Patterns of paths.
        unwanted: Patterns of paths that are left out, besides `UNWANTED`.
        required: Paths without which the snapshot is of no use.

    Raises:
        FetchError: the hub or the disk failed, or the commit lacks a required file.
    """
    # Imported here: what asks for a recorded commit must run where the hub's client is not installed.
    from huggingface_hub import HfApi, snapshot_download

    partial = folder.with_name(f"{folder.name}.partial")
    try:
        commit = revision or str(HfApi().model_info(repository).sha)
        snapshot_download(
            repository,
            revision=commit,
            local_dir=partial,
            allow_patterns=list(wanted),
            ignore_patterns=[*UNWANTED, *unwanted],
        )
        absent = [name for name in required if not (partial / name).is_file()]
        if absent:
            raise FetchError(f"{repository} at commit {commit} lacks {', '.join(absent)}.")
        (partial / COMMIT_FILE).write_text(f"{commit}\n", encoding="utf-8")
        partial.rename(folder)
    except FetchError:
        raise
    except Exception as error:  # the hub's client lets errors of its HTTP library through, whichever that is
        raise FetchError(f"{repository} could not be fetched from the hub: {error}") from error
    return commit
