"""Uploads a trainer's checkpoints while it trains, from a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from enlight.dreambooth_api.checkpoint_mirror import CheckpointMirror
from enlight.servicekit.errors import ClientError, ServiceError
from enlight.servicekit.logs import in_this_context

_log = logging.getLogger(__name__)


class CheckpointUploads:
    """Within a ``with`` block new checkpoints go to the bucket as they appear.

    When the block ends with an error that another attempt may survive, the newest one goes there before the error
    passes on. A bucket that is away costs nothing but the progress since the last upload.

    Args:
        mirror: Where to; nobody else uses it meanwhile.
        every_s: Time between two looks.
        before_upload: Is called before each one goes.
        tell: Is told what becomes of them: ``info`` or ``warning``, and a sentence.
        measured: Is told ``succeeded`` or ``failed``, and how many seconds it took.
    """

    def __init__(
        self,
        mirror: CheckpointMirror,
        *,
        every_s: float,
        before_upload: Callable[[], object] = lambda: None,
        tell: Callable[[Literal["info", "warning"], str], object] = lambda level, message: None,
        measured: Callable[[Literal["succeeded", "failed"], float], object] = lambda outcome, seconds: None,
    ) -> None:
        self._mirror = mirror
        self._every_s = every_s
        self._before_upload = before_upload
        self._tell = tell
        self._measured = measured
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=in_this_context(self._upload), name="checkpoint-uploads", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if isinstance(error, ServiceError) and not isinstance(error, ClientError):
            self._try_upload(last=True)

    def _upload(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._try_upload(last=False)

    def _try_upload(self, *, last: bool) -> None:
        began_s = time.monotonic()
        try:
            step = self._mirror.upload_new(
                before=self._before_upload, give_up=lambda: not last and self._stopping.is_set()
            )
        except (ServiceError, OSError) as error:
            _log.warning("the newest checkpoint is not in the bucket: %s", error)
            self._measured("failed", time.monotonic() - began_s)
            self._tell("warning", "The newest checkpoint could not be brought to the bucket; it is tried again.")
        else:
            if step is not None:
                _log.info("the checkpoint of update %d is in the bucket", step)
                self._measured("succeeded", time.monotonic() - began_s)
                self._tell("info", f"The checkpoint of step {step} is kept.")
