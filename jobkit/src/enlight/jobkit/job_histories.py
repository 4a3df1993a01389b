"""What happened to a job on its way: lines of a log and the losses of its training, beside the job's record.

A record is read many times a second and says what is now; a history is read when somebody looks at one job. Workers
write it, in batches. It begins with the first claim and goes with the record; what comes later from a worker that lost
its job changes nothing then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from enlight.jobkit.database import Documents, database_errors

COLLECTION = "job_histories"

LINES_KEPT = 500
"""Lines of one job; the oldest go first."""
MESSAGE_CHARS = 500
TRACE_CHARS = 4000

LineLevel = Literal["info", "warning", "error"]
Losses = Sequence[tuple[int, float]]
"""(step, loss), by step."""


@dataclass(frozen=True)
class LogLine:
    """Something that happened."""

    at: datetime
    """By the clock of whoever saw it."""
    level: LineLevel
    attempt: int
    """0: before any worker had the job."""
    message: str
    """For the job's tenant."""
    trace: str | None = None
    """Where in the code it happened; not for tenants."""

    def cut(self) -> LogLine:
        """The same within the bounds of a history."""
        trace = self.trace and self.trace[-TRACE_CHARS:]  # the error itself stands at its end
        return dataclasses.replace(self, message=self.message[:MESSAGE_CHARS], trace=trace)


class JobHistories:
    """The collection ``job_histories``. Thread-safe; all methods raise DatabaseUnavailable."""

    def __init__(self, database: Documents) -> None:
        self._histories = database[COLLECTION]

    def begin(self, job_id: str, attempt: int) -> Losses:
        """An attempt begins, whose worker holds the job; gives the losses of those before."""
        empty = {"lines": [], "lines_written": 0, "last_batch": None, "losses": []}
        with database_errors():
            self._histories.update_one(
                {"_id": job_id}, {"$max": {"attempt": attempt}, "$setOnInsert": empty}, upsert=True
            )
        return self.losses(job_id)

    def add_lines(self, job_id: str, batch: str, lines: Sequence[LogLine]) -> None:
        """Adds lines; the same batch again, after an answer that was lost, adds nothing."""
        added = [dataclasses.asdict(line.cut()) for line in lines]
        with database_errors():
            self._histories.update_one(
                {"_id": job_id, "last_batch": {"$ne": batch}},
                {
                    "$push": {"lines": {"$each": added, "$slice": -LINES_KEPT}},
                    "$inc": {"lines_written": len(added)},
                    "$set": {"last_batch": batch},
                },
            )

    def set_losses(self, job_id: str, attempt: int, losses: Losses) -> None:
        """Replaces the losses, unless a later attempt writes them."""
        points = [[step, loss] for step, loss in losses]
        with database_errors():
            self._histories.update_one({"_id": job_id, "attempt": attempt}, {"$set": {"losses": points}})

    def losses(self, job_id: str) -> Losses:
        """The losses; none of a job without a history."""
        with database_errors():
            history = self._histories.find_one({"_id": job_id}, ["losses"])
        return [(step, loss) for step, loss in history["losses"]] if history else []

    def lines(self, job_id: str) -> tuple[Sequence[LogLine], int]:
        """The lines that are kept, oldest first, and how many there were."""
        with database_errors():
            history = self._histories.find_one({"_id": job_id}, ["lines", "lines_written"])
        if history is None:
            return [], 0
        return [LogLine(**line) for line in history["lines"]], history["lines_written"]

    def remove(self, job_id: str) -> None:
        """Removes the history; one that is not there is no error."""
        with database_errors():
            self._histories.delete_one({"_id": job_id})
