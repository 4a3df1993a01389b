"""Collections of test pictures that others made, many of them broken on purpose: fetched once, checked, never kept
in the repository.

They lie inside source packages, so the package managers' own ways bring them: pip the source distribution of Pillow
(about 1,050 files), apt-get the source package of libspng, which holds PngSuite (Willem van Schaik's 161 good and 14
bad PNG files) and the PNG files that once broke libpng. What was fetched is kept in ``.test-downloads/``.
"""

from __future__ import annotations

import fcntl
import functools
import getpass
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from enlight.servicekit import atomic_files

FOLDER = Path(__file__).resolve().parents[2] / ".test-downloads"
TIMEOUT_S = 240

PILLOW_VERSION = "12.3.0"
PILLOW = f"pillow-{PILLOW_VERSION}.tar.gz"
PILLOW_SHA256 = "3b8182a766685eaa002637e28b4ec8d6b18819a0c71f579bf0dbaa5830297cce"
LIBSPNG = "libspng.orig.tar.gz"
LIBSPNG_VERSION = "0.7.3"
LIBSPNG_SHA256 = "a50cadbe808ffda1a7fab17d145f52a23b163f34b3eb3696c7ecb5a52340fc1d"
"""Of libspng 0.7.3."""

_NO_NETWORK = re.compile(
    "NewConnectionError|NameResolutionError|ConnectTimeout|Network is unreachable|Temporary failure (in name )?resolv"
    "|Could not resolve|Could not connect|Connection refused|ConnectionRefusedError"
)


class CorpusUnavailableError(Exception):
    """There is no way to the package registry from here: a reason to skip a test, not one to fail it."""


@dataclass(frozen=True)
class CorpusFile:
    """One file of a collection."""

    name: str
    data: bytes


@functools.cache
def pillow_images() -> list[CorpusFile]:
    """Every file of Tests/images of Pillow's source distribution, whatever its format, by name."""
    return _members(_fetched(PILLOW, PILLOW_SHA256, _source_distribution), "Tests/images")


@functools.cache
def pngsuite() -> list[CorpusFile]:
    """PngSuite, by name. The names that begin with an x are broken files."""
    return _members(_fetched(LIBSPNG, LIBSPNG_SHA256, _source_package), "tests/images")


@functools.cache
def png_crashers() -> list[CorpusFile]:
    """PNG files that once broke libpng: huge or empty chunks, wrong sums, missing palettes."""
    return _members(_fetched(LIBSPNG, LIBSPNG_SHA256, _source_package), "tests/crashers")


def _members(archive: Path, folder: str) -> list[CorpusFile]:
    files = []
    with tarfile.open(archive) as opened:  # nothing is unpacked onto the disk
        for member in opened:
            inside = PurePosixPath(member.name).relative_to(PurePosixPath(member.name).parts[0])
            if member.isfile() and inside.is_relative_to(folder):
                stream = opened.extractfile(member)
                assert stream is not None
                files.append(CorpusFile(str(inside.relative_to(folder)), stream.read()))
    return sorted(files, key=lambda file: file.name)


def _fetched(name: str, sha256: str, fetch: Callable[[Path, str], Path]) -> Path:
    """The file in the folder of downloads; ``fetch`` is called with a scratch folder and the sum when it is missing.

    Raises:
        CorpusUnavailableError: there is no network.
        AssertionError: the package came with other bytes, or could not be had for another reason.
    """
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / name
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes beside this one want the same file
        if not path.is_file() or _sha256(path) != sha256:
            with tempfile.TemporaryDirectory(prefix="enlight-corpus-") as scratch:
                came = fetch(Path(scratch), sha256)
                assert _sha256(came) == sha256, f"{came.name} is not the file that these tests were written for"
                atomic_files.write_bytes(path, came.read_bytes())
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source_distribution(scratch: Path, sha256: str) -> Path:
    """Pillow's, through pip, which compares the sum before it runs anything of the package."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"pillow=={PILLOW_VERSION} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    command += ["--no-deps", "--no-binary", "pillow", "--require-hashes", "--requirement", str(requirements)]
    _run([*command, "--dest", str(scratch)])
    return scratch / PILLOW


def _source_package(scratch: Path, _: str) -> Path:
    """libspng's upstream archive, through apt-get with lists of its own: the machine's package sources stay as they
    are, whether they name source packages or not."""
    try:
        repositories = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"])
    except FileNotFoundError as error:
        raise CorpusUnavailableError("apt-get is not on this machine; it brings the source of libspng.") from error
    sources = {f"deb-src {line}" for line in repositories.splitlines() if re.search(r"/debian/? \S+ main$", line)}
    if not sources:
        raise CorpusUnavailableError("This machine's apt-get knows no repository of Debian, which has libspng.")
    (scratch / "sources.list").write_text("\n".join(sorted(sources)) + "\n")
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch / "cache",
        "APT::Sandbox::User": getpass.getuser(),  # apt's own user cannot write here
        "Acquire::Retries": 1,
    }
    apt = ["apt-get", "--quiet", *(f"--option={name}={value}" for name, value in options.items())]
    _run([*apt, "update", "--error-on=any"])
    _run([*apt, "source", "--download-only", "--tar-only", "libspng"], folder=scratch)
    (came,) = scratch.glob("libspng_*.orig.tar.*")
    if f"_{LIBSPNG_VERSION}." not in came.name:
        raise CorpusUnavailableError(f"This Debian has {came.name}; these tests know libspng {LIBSPNG_VERSION}.")
    return came


def _run(command: list[str], *, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-1500:]
        if _NO_NETWORK.search(done.stdout + done.stderr):
            raise CorpusUnavailableError(f"There is no network to fetch this collection: {said}")
        raise AssertionError(f"{' '.join(command[:4])} failed: {said}")
    return done.stdout
