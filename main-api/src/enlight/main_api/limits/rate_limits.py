"""How much of something one tenant may use within a window: requests, seconds of a GPU.

The count is in the cache server, so that it holds over all processes, and moves in one Lua script, so that no two
requests take the same room. While the server is away each process counts for itself what it gave: the limit then holds
per process, and never not at all.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from enlight.main_api.cache.cache_keys import rate_key
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.limits.sliding_window import SLICES, fits, seconds_until_room, slice_of, used
from enlight.servicekit.errors import QuotaExceeded

MAX_LOCAL_COUNTS = 10_000
"""Tenants and kinds counted in this process at once; the one that was used longest ago goes first."""

# The server's own clock counts: the gateways' may differ. Fields are slices' numbers; those outside of the window go.
# Gives whether the amount was taken, the time, and field, value, field, value ... as texts.
_TAKE = """
local window_s, slices = tonumber(ARGV[1]), tonumber(ARGV[2])
local limit, amount, always = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local clock = redis.call('TIME')
local now_s = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local newest = math.floor(now_s * slices / window_s)
local flat = redis.call('HGETALL', KEYS[1])
local sum, kept = 0, {}
for i = 1, #flat, 2 do
  local number, value = tonumber(flat[i]), tonumber(flat[i + 1])
  if number and value and number >= newest - slices and number <= newest then
    sum = sum + value
    kept[#kept + 1] = flat[i]
    kept[#kept + 1] = flat[i + 1]
  else
    redis.call('HDEL', KEYS[1], flat[i])
  end
end
local taken = 0
if always or (amount > 0 and sum + amount <= limit) or (amount == 0 and sum < limit) then
  taken = 1
  if amount > 0 then
    redis.call('HINCRBYFLOAT', KEYS[1], string.format('%d', newest), ARGV[4])
    redis.call('PEXPIRE', KEYS[1], math.ceil(window_s * 1000 * (slices + 1) / slices))
  end
end
return {taken, string.format('%.6f', now_s), kept}
"""


@dataclass(frozen=True)
class RateLimit:
    """At most ``amount`` (above 0) within any ``window_s`` seconds (1 or more)."""

    amount: float
    window_s: int


class RateLimiter:
    """Limits by name, such as ``requests`` and ``gpu_seconds``; what has no limit is not counted."""

    def __init__(self, client: CacheClient, *, limits: Mapping[str, RateLimit]) -> None:
        self._client = client
        self._limits = dict(limits)
        self._local = _LocalCounts()

    @property
    def limits_any(self) -> bool:
        """Whether anything has a limit."""
        return bool(self._limits)

    def take(self, tenant: str, what: str, amount: float = 1) -> None:
        """Counts ``amount``, if it fits. 0 counts nothing and only asks whether there is any room.

        Raises: QuotaExceeded, with the seconds after which it is worth trying again.
        """
        limit = self._limits.get(what)
        if limit is None:
            return
        wait_s = self._shared(tenant, what, limit, amount, always=False)
        if wait_s is None:  # the server is away
            wait_s = self._local.take(tenant, what, limit, amount, time.time())
        elif wait_s == 0:
            self._local.record(tenant, what, limit, amount, time.time())
        if wait_s > 0:
            raise _exceeded(what, limit, wait_s)

    def record(self, tenant: str, what: str, amount: float, *, ended_s_ago: float = 0) -> None:
        """Counts what was used already, whether it fits or not: the seconds that a job took.

        Of seconds that went by until ``ended_s_ago``, those that no window of now reaches back to are left out.
        """
        limit = self._limits.get(what)
        if limit is not None:
            amount = min(amount, limit.window_s - ended_s_ago)
        if limit is not None and amount > 0:
            self._shared(tenant, what, limit, amount, always=True)
            self._local.record(tenant, what, limit, amount, time.time())

    def _shared(self, tenant: str, what: str, limit: RateLimit, amount: float, *, always: bool) -> float | None:
        """0: taken. Above 0: seconds until it fits. None: the server is away, or gave nonsense."""
        key = rate_key(tenant=tenant, what=what, window_s=limit.window_s)
        answer = self._client.run_script(_TAKE, key, [limit.window_s, SLICES, limit.amount, amount, int(always)])
        match answer:
            case [1, _, _]:
                return 0.0
            case [0, bytes(clock), list(flat)]:
                return _wait_s(clock, cast("list[bytes]", flat), limit, amount)
        return None


class _LocalCounts:
    """What this process gave, by tenant and kind, in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], dict[int, float]] = {}

    def take(self, tenant: str, what: str, limit: RateLimit, amount: float, now_s: float) -> float:
        """0: taken. Above 0: seconds until it fits."""
        with self._lock:
            slices = self._slices(tenant, what, limit, now_s)
            newest = slice_of(now_s, limit.window_s)
            if fits(used(slices, newest), amount, limit.amount):
                slices[newest] = slices.get(newest, 0.0) + amount
                return 0.0
            return _at_least(
                seconds_until_room(slices, now_s, window_s=limit.window_s, room_for=amount, limit=limit.amount)
            )

    def record(self, tenant: str, what: str, limit: RateLimit, amount: float, now_s: float) -> None:
        """Counts it whether it fits or not."""
        with self._lock:
            slices = self._slices(tenant, what, limit, now_s)
            newest = slice_of(now_s, limit.window_s)
            slices[newest] = slices.get(newest, 0.0) + amount

    def _slices(self, tenant: str, what: str, limit: RateLimit, now_s: float) -> dict[int, float]:
        newest = slice_of(now_s, limit.window_s)
        slices = self._counts.pop((tenant, what), {})
        slices = {number: amount for number, amount in slices.items() if newest - SLICES <= number <= newest}
        self._counts[tenant, what] = slices  # at the end: the first one is the one that was used longest ago
        if len(self._counts) > MAX_LOCAL_COUNTS:
            del self._counts[next(iter(self._counts))]
        return slices


def _wait_s(clock: bytes, flat: list[bytes], limit: RateLimit, amount: float) -> float:
    slices = {int(number): float(value) for number, value in zip(flat[::2], flat[1::2], strict=True)}
    return _at_least(
        seconds_until_room(slices, float(clock), window_s=limit.window_s, room_for=amount, limit=limit.amount)
    )


def _at_least(wait_s: float) -> float:
    return max(wait_s, 0.001)  # 0 would mean that it was taken


def _exceeded(what: str, limit: RateLimit, wait_s: float) -> QuotaExceeded:
    name = what.replace("_", " ")
    return QuotaExceeded(
        f"The limit of {limit.amount:g} {name} in {limit.window_s} s is reached.",
        details={"limit": limit.amount, "window_s": limit.window_s, "of": what},
        retry_after_s=math.ceil(wait_s),
    )
