"""The processes behind an address of a service, and what each says of itself."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from urllib3 import connection_from_url

from enlight.servicekit.service_status import STATUS_RULE, StatusBody

ASK_TIMEOUT_S = 2.0
MAX_STATUS_BYTES = 1 << 20
MAX_ADDRESSES = 64
"""Of one name."""
_NO_ADDRESS = (socket.EAI_NONAME, socket.EAI_NODATA)
_HTTP_PORT = 80


@dataclass(frozen=True, order=True)
class Instance:
    """One process, by where it is reached."""

    service: str
    url: str
    """With the address itself in the place of a name."""
    host_header: str
    """The name and port that were resolved."""

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


def instances_at(service: str, url: str) -> list[Instance]:
    """One for each address of the name in ``url``.

    With TLS it is the name itself, for which the certificate is; so it is when the name has no address.

    Raises:
        OSError: the name server is away.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        return [unresolved(service, url)]
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or _HTTP_PORT, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno not in _NO_ADDRESS:
            raise
        return [unresolved(service, url)]
    # A process that listens on both has two addresses, and is one.
    of_version_4 = [each for each in found if each[0] == socket.AF_INET]
    ends = sorted({(str(end[0]), int(end[1])) for *_, end in of_version_4 or found})
    return [Instance(service, f"http://{_bracketed(host)}:{port}", parts.netloc) for host, port in ends[:MAX_ADDRESSES]]


def unresolved(service: str, url: str) -> Instance:
    """What stands for a URL whose addresses are not known."""
    return Instance(service, url, urlsplit(url).netloc)


def ask(instance: Instance) -> StatusBody:
    """What the process says.

    Raises:
        urllib3.exceptions.HTTPError: it cannot be reached, or is silent.
        ValueError: it says something else than a status.
    """
    with connection_from_url(instance.url, timeout=ASK_TIMEOUT_S, retries=False) as pool:
        response = pool.urlopen(
            "GET", STATUS_RULE, headers={"Host": instance.host_header}, redirect=False, preload_content=False
        )
        body = response.read(MAX_STATUS_BYTES)
        response.close()
    if response.status != 200:
        raise ValueError(f"{instance.url} answered {response.status}")
    # A newer one may say more.
    return StatusBody.model_validate(json.loads(body), extra="ignore")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
