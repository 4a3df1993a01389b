"""How long workers have a job, kept in its record: values for `JobCollection.change`, by the database's clock.

A worker's time is all of it, from its claim to the attempt's end, photos and uploads included: nobody else has its GPU
meanwhile. It grows with each renewal of the lease, so that of a worker that is killed no more is lost than the time
since its last renewal.
"""

from __future__ import annotations

from enlight.jobkit.jobs import Outcome

_SINCE_RENEWAL_S = {
    "$max": [
        0,  # of a clock that was set back, and of a record from before there was the field
        {"$divide": [{"$dateDiff": {"startDate": "$renewed_at", "endDate": "$$NOW", "unit": "millisecond"}}, 1000]},
    ]
}


def begins() -> dict[str, object]:
    """The values of a job whose attempt begins."""
    return {"renewed_at": "$$NOW", "attempt_gpu_seconds": 0.0}


def goes_on() -> dict[str, object]:
    """The values of a job whose worker gave a sign of life."""
    return {
        "renewed_at": "$$NOW",
        "gpu_seconds": _more("gpu_seconds"),
        "attempt_gpu_seconds": _more("attempt_gpu_seconds"),
    }


def ends(outcome: Outcome) -> dict[str, object]:
    """The values of a job whose worker ends the attempt."""
    last = goes_on()
    return {**last, "unrecorded_attempts": _with_ended(outcome, last["attempt_gpu_seconds"], at="$$NOW")}


def is_lost() -> dict[str, object]:
    """The values of a job whose worker was not heard of again: what is known of its time is all there will be."""
    known = {"$ifNull": ["$attempt_gpu_seconds", 0]}
    return {"unrecorded_attempts": _with_ended("lost", known, at="$renewed_at")}


def _more(field: str) -> dict[str, object]:
    return {"$add": [{"$ifNull": [f"${field}", 0]}, _SINCE_RENEWAL_S]}


def _with_ended(outcome: Outcome, gpu_seconds: object, *, at: str) -> dict[str, object]:
    ended = {"attempt": "$attempt", "outcome": outcome, "gpu_seconds": gpu_seconds, "ended_at": at}
    return {"$concatArrays": [{"$ifNull": ["$unrecorded_attempts", []]}, [ended]]}
