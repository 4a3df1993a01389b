"""diffusers and transformers without bars and notices, which would end up between the JSON log lines."""

from __future__ import annotations

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


def silence_libraries() -> None:
    """Errors only, no progress bars."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
