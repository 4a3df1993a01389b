"""enlight-redis/start-redis.sh and start_cluster.sh: started for real; no known password, none on a command line."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
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


def test_the_cache_is_evicting_forgetful_and_closed(program: str, tmp_path: Path) -> None:
    with started(program, tmp_path) as (redis, pid):
        wanted = {"maxmemory": "536870912", "maxmemory-policy": "allkeys-lfu", "appendonly": "no", "save": ""}
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
