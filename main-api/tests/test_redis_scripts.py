"""enlight-redis/start-redis.sh and start_cluster.sh: started for real; no known password, none on a command line."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from cache_users import used_all_the_time
from PIL import Image
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from redis_cluster import ClusterOfSix, cluster_of_six
from redis_servers import PROGRAMS
from waiting import wait_until

_REDIS = Path(__file__).resolve().parents[2] / "enlight-redis"
START = _REDIS / "start-redis.sh"
CLUSTER = _REDIS / "cluster/start_cluster.sh"
ONCE = Retry(NoBackoff(), 0)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """The script starts Valkey, and then Redis."""
    path: str = request.param
    return path


@contextmanager
def started(program: str, folder: Path, *arguments: str) -> Iterator[tuple[Redis, int]]:
    """A running server that answers with the password of its folder, and its process id."""
    port = free_port()
    environment = os.environ | {"REDIS_SERVER": program, "REDIS_FOLDER": str(folder), "REDIS_PORT": str(port)}
    with subprocess.Popen([START, *arguments], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            assert wait_until((folder / "server.conf").exists)
            password = (folder / "password").read_text()
            with closing(Redis(port=port, password=password, socket_timeout=5, retry=ONCE)) as redis:
                assert wait_until(lambda: answers(redis))
                yield redis, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def refused(script: Path, folder: Path) -> str:
    """What a script says that does not start."""
    environment = os.environ | {"REDIS_FOLDER": str(folder), "CLUSTER_FOLDER": str(folder)}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    return done.stderr


def test_the_cache_is_evicting_and_closed(program: str, tmp_path: Path) -> None:
    with started(program, tmp_path) as (redis, pid):
        wanted = {"maxmemory": f"{4 << 30}", "maxmemory-policy": "allkeys-lru", "appendonly": "yes", "save": ""}
        wanted |= {"appendfsync": "everysec"}
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted
        assert redis.config_get("bind")["bind"] == "127.0.0.1"
        # Nobody comes in without the password, and nobody reads it off the process list or a file
        port = redis.connection_pool.connection_kwargs["port"]
        with closing(Redis(port=port, retry=ONCE)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        password = (tmp_path / "password").read_text()
        assert len(password) == 64
        assert password not in " ".join(psutil.Process(pid).cmdline())
        for name in ("password", "server.conf"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_full_cache_lets_the_least_recently_used_go(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_MAXMEMORY", "24mb")
    with started(program, tmp_path) as (redis, _):
        value = bytes(10_000)
        old = [f"old-{number}" for number in range(1500)]
        used, unused = old[:500], old[500:]
        redis.mset(dict.fromkeys(old, value))
        # Given keys that nobody asked for while others were asked for
        assert wait_until(lambda: int(redis.object("idletime", unused[0])) >= 2)
        assert all(redis.mget(used))
        # When more comes than there is room for, then it finds room
        for number in range(1200):
            assert redis.set(f"new-{number}", value)
        assert redis.info("memory")["used_memory"] <= 25 << 20
        assert redis.info("stats")["evicted_keys"] >= 200
        # And it is the others that went (the server looks at samples, so nearly all)
        assert redis.exists(*used) >= 490
        assert redis.exists(*unused) <= 850


def test_the_cache_keeps_all_but_a_second_over_a_kill(program: str, tmp_path: Path) -> None:
    with started(program, tmp_path) as (redis, pid):
        redis.set("before", "1", ex=600)
        assert wait_until(lambda: redis.info("persistence")["aof_pending_bio_fsync"] == 0)
        psutil.Process(pid).kill()
    with started(program, tmp_path) as (redis, _):
        assert redis.get("before") == b"1"
        assert 0 < redis.ttl("before") <= 600


def test_every_line_of_the_configuration_has_its_reason() -> None:
    lines = (_REDIS / "single_redis/config/redis.conf").read_text().splitlines()
    for above, line in pairwise(lines):
        if line and not line.startswith("#"):
            assert above.startswith("# "), line


def test_the_examples_of_the_page_run(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single, cluster = re.findall("```python\n(.*?)```", (_REDIS / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "cat.jpeg")
    with started(program, tmp_path / "data/redis-cache") as (redis, _):
        port = redis.connection_pool.connection_kwargs["port"]
        assert run(single.replace("6379", str(port))) == "(8, 8)\n"
    with cluster_of_six(tmp_path / "data/redis-cluster", program) as nodes:
        for number in (0, 1):
            cluster = cluster.replace(str(7000 + number), str(nodes.ports[number]))
        assert run(cluster) == "enlightai\n"


def run(program: str) -> str:
    """What a Python program says."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_the_queue_keeps_its_data_and_its_password_over_a_restart(program: str, tmp_path: Path) -> None:
    with started(program, tmp_path, "queue") as (redis, _):
        wanted = {"maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "yes"}
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted
        redis.set("job", "1")
    password = (tmp_path / "password").read_text()
    with started(program, tmp_path, "queue") as (redis, _):
        assert redis.get("job") == b"1"
    assert (tmp_path / "password").read_text() == password


@pytest.mark.parametrize("script", [START, CLUSTER])
@pytest.mark.parametrize(
    "password",
    ["", "enlightai2022", "EnlightAI2022EnlightAI2022EnlightAI2022", "password" * 5, "foobared" * 4, "short",
     "with spaces and more than enough of them", "line\nend" * 5, "x'; shutdown; '" * 3],
)  # fmt: skip
def test_known_guessable_and_broken_passwords_are_refused(tmp_path: Path, script: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password)
    file.chmod(0o600)
    message = refused(script, tmp_path)
    assert "remove the file to have one made" in message
    assert not password or password not in message


@pytest.mark.parametrize("script", [START, CLUSTER])
def test_a_password_that_others_can_read_is_refused(tmp_path: Path, script: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a" * 64)
    file.chmod(0o640)
    assert "can be read by others" in refused(script, tmp_path)


def test_an_unknown_role_is_refused() -> None:
    done = subprocess.run([START, "both"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "usage: start-redis.sh [cache|queue]\n")


def test_a_primary_that_is_killed_under_load_is_replaced(program: str, tmp_path: Path) -> None:
    """Plain clients of the cluster, not the gateway's: what `start_cluster.sh` makes fails over by itself."""
    keys = [f"key-{number}" for number in range(60)]
    with cluster_of_six(tmp_path, program) as nodes, ExitStack() as stack:
        clients = threading.local()

        def use(key: str) -> object:
            if not hasattr(clients, "own"):
                clients.own = stack.enter_context(closing(cluster_client(nodes)))
            try:
                clients.own.set(key, key)
                value = clients.own.get(key)
            except RedisError:
                failed_s.append(time.monotonic())
                return None
            return None if value in (None, key.encode()) else value

        failed_s: list[float] = []
        with used_all_the_time(use, keys, threads=4) as uses:
            assert wait_until(lambda: len(uses.took_s) > 1000)
            assert not failed_s
            # When a primary is killed while they write and read
            nodes.signal(1, signal.SIGKILL)
            killed_s, before = time.monotonic(), len(uses.took_s)
            assert wait_until(lambda: nodes.is_primary(4), timeout_s=30)
            replaced_s = time.monotonic()
            # Then its replica takes its place, and all keys are written and read again
            assert wait_until(lambda: all_are_kept(nodes, keys), timeout_s=30)
            assert wait_until(lambda: time.monotonic() - max([killed_s, *failed_s]) > 3, timeout_s=30)
        assert not uses.wrong
        assert failed_s  # it was felt
        assert len(uses.took_s) - before > 100
        replaced, last = replaced_s - killed_s, max(failed_s) - killed_s
        print(f"a primary after {replaced:.1f} s, last of {len(failed_s)} errors after {last:.1f} s")


def cluster_client(nodes: ClusterOfSix) -> RedisCluster:
    return RedisCluster.from_url(nodes.url(0), socket_timeout=0.5, retry=ONCE)


def all_are_kept(nodes: ClusterOfSix, keys: list[str]) -> bool:
    try:
        with closing(cluster_client(nodes)) as client:
            return all(client.set(key, key) and client.get(key) == key.encode() for key in keys)
    except RedisError:
        return False
