"""Hosts on one network, made of Linux network namespaces: each with an address and processes of its own.

What runs on one reaches the others through its address only, so that a host can be cut off as by a pulled cable. Needs
root and the program ``ip``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

TESTERS_NUMBER = 254
"""Last part of the address that the test itself has on the network."""


def can_make_hosts() -> bool:
    """Whether network namespaces can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"enlight-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "delete", name)
    return made


@dataclass(frozen=True)
class Host:
    """One host."""

    name: str
    address: str
    namespace: str
    switch: str

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command that runs these on the host, in the same process."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def cut_off(self) -> None:
        """Pulls its cable: nothing comes or goes, and nobody is told."""
        _ip("-n", self.switch, "link", "set", self.name, "down")

    def plug_in(self) -> None:
        """Puts the cable back."""
        _ip("-n", self.switch, "link", "set", self.name, "up")

    def kill(self) -> int:
        """kill -9 of all that runs on it; gives how many processes that were."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        pids = [int(pid) for pid in listed.stdout.split()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)


@contextmanager
def separate_hosts(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts of these short names on a network that this process is on as well; all is gone at the end."""
    own = f"enl{os.getpid()}"
    network = f"198.18.{random.randrange(256)}"  # for measurements between hosts (RFC 2544): nobody else's
    switch = f"{own}-switch"
    with ExitStack() as made:
        _add_namespace(switch, made)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = {}
        for number, name in enumerate(names, 1):
            host = Host(name, f"{network}.{number}", f"{own}-{name}", switch)
            _add_namespace(host.namespace, made)
            made.callback(host.kill)
            _ip("link", "add", "net", "netns", host.namespace, "type", "veth", "peer", "name", name, "netns", switch)
            _plug_into(switch, name)
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "net")
            for device in ("lo", "net"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            hosts[name] = host
        _ip("link", "add", own, "type", "veth", "peer", "name", "tester", "netns", switch)
        _plug_into(switch, "tester")
        _ip("address", "add", f"{network}.{TESTERS_NUMBER}/24", "dev", own)
        _ip("link", "set", own, "up")
        yield hosts


def _add_namespace(name: str, made: ExitStack) -> None:
    _ip("netns", "add", name)
    made.callback(_ip, "netns", "delete", name)


def _plug_into(switch: str, cable: str) -> None:
    _ip("-n", switch, "link", "set", cable, "master", "bridge")
    _ip("-n", switch, "link", "set", cable, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
