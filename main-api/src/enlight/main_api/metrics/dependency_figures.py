"""Whether what the gateway depends on is there, as it was seen last."""

from __future__ import annotations

from collections.abc import Mapping

UP = frozenset({"ready", "busy"})


def dependencies_up(seen: Mapping[str, object]) -> Mapping[str, float]:
    """1 for each that is there, of a service at several addresses when one of them is; what was not looked at yet is
    left out.

    Args:
        seen: As `DependencyWatch.seen`.
    """
    return {name: float(_is_up(look)) for name, look in seen.items() if look != "unknown"}


def _is_up(look: object) -> bool:
    if isinstance(look, list):
        return any(each["state"] in UP for each in look)
    return look in UP
