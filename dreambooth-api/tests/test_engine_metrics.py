"""How full the caches are, and what had to make room in them."""

from __future__ import annotations

import time
from pathlib import Path

from enlight.dreambooth_api.engine_metrics import FolderSize
from enlight.dreambooth_api.lru_cache import LruCache


def test_the_folder_is_looked_at_once_in_a_while(tmp_path: Path) -> None:
    version = tmp_path / "models" / "chair" / "v1"
    version.mkdir(parents=True)
    (version / "weights").write_bytes(b"x" * 100)
    seldom, always = FolderSize(tmp_path, look_every_s=3600), FolderSize(tmp_path, look_every_s=0)
    assert seldom.used_bytes() == always.used_bytes() == 100
    (tmp_path / "downloads" / "abc-50").mkdir(parents=True)  # reserved counts from its first moment
    (version / "more").write_bytes(b"x" * 7)
    assert (seldom.used_bytes(), always.used_bytes()) == (100, 157)


def test_a_look_that_takes_long_holds_nobody_else_up(tmp_path: Path) -> None:
    size = FolderSize(tmp_path, look_every_s=0)
    assert size.used_bytes() == 0
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "file").write_bytes(b"x")
    with size._looking:  # somebody is at it
        began_s = time.monotonic()
        assert size.used_bytes() == 0
        assert time.monotonic() - began_s < 5
    assert size.used_bytes() == 1


def test_what_has_to_make_room_is_counted_and_nothing_else() -> None:
    cache: LruCache[str] = LruCache(10)
    cache.put("a", "a", 6)
    cache.put("a", "newer", 6)
    cache.remove("a")
    cache.put("b", "b", 6)
    cache.put("too large", "c", 11)
    assert cache.evictions == 0
    cache.put("d", "d", 6)
    assert (cache.keys(), cache.evictions) == (["d"], 1)
    cache.clear()
    assert cache.evictions == 1
