"""The processes that a test's own code started: servers of other tests' fixtures may run in the same process."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

_of_others: set[int] = set()


@pytest.fixture
def only_new_children() -> Iterator[None]:
    """From here on `new_children` knows what was there before."""
    _of_others.update(child.pid for child in psutil.Process().children(recursive=True))
    yield
    _of_others.clear()


def new_children(*, recursive: bool = False) -> list[psutil.Process]:
    """Child processes that were not there when the test began, zombies included."""
    return [child for child in psutil.Process().children(recursive=recursive) if child.pid not in _of_others]
