"""Prints the installed versions of the named distributions and of all that they need, as lines for pip."""

from __future__ import annotations

import sys
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins_of(names: list[str]) -> list[str]:
    """``name==version`` of each, extras that are asked for on the way included."""
    waiting = [Requirement(name) for name in names]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            key = (canonicalize_name(wanted.name), extra)
            if key in seen:
                continue
            seen.add(key)
            for line in requires(wanted.name) or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return sorted({f"{name}=={version(name)}" for name, _ in seen})


if __name__ == "__main__":
    print("\n".join(pins_of(sys.argv[1:])))
