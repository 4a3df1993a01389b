"""Where a webhook may go: to public addresses, so that nobody reaches the inside of our network through us.

A name is resolved once, every address that it has is checked, and the connection goes to a checked address: asking a
second time could give another answer (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from enlight.servicekit.errors import InvalidField

_log = logging.getLogger(__name__)

MAX_URL_CHARS = 2048
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:.]{2,45}")
_HIDDEN_IPV4 = (
    ("::ffff:0:0/96", 0),  # mapped
    ("::/96", 0),  # compatible, long out of use
    ("64:ff9b::/96", 0),  # NAT64
    ("2002::/16", 80),  # 6to4: the address stands behind the first 16 bits
)
"""IPv6 networks whose addresses stand for IPv4 ones, and how many bits follow the IPv4 address."""
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host, public by its number only
        "192.0.0.0/24",  # protocol assignments, a few of which count as global
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # NAT64 within a site
        "2001::/32",  # Teredo: an IPv4 address behind a relay
        "3fff::/20",  # documentation, too new for some versions of Python
        "fec0::/10",  # site-local, as fc00::/7 is now
    )
)


class AddressRefusedError(Exception):
    """The name leads to an address that webhooks do not go to, or to none."""


@dataclass(frozen=True)
class WebhookTarget:
    """A URL taken apart."""

    scheme: str
    host: str
    """A name or an address, without brackets."""
    port: int
    path: str
    """With the query; at least ``/``."""

    @property
    def host_header(self) -> str:
        """Value of the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_webhook_url(url: str, *, field: str, allow_private: bool) -> WebhookTarget:
    """Takes ``url`` apart without asking any name server.

    Args:
        url: Absolute, http or https, visible ASCII, without credentials and fragment.
        field: What the caller knows it as.
        allow_private: Whether addresses of one's own network may be named.

    Raises:
        InvalidField: it is none, or names an address that webhooks do not go to.
    """
    if len(url) > MAX_URL_CHARS or not re.fullmatch(r"[!-~]+", url):
        raise InvalidField.of(field, f"must be at most {MAX_URL_CHARS} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidField.of(field, "is not a URL") from None
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host):
        raise InvalidField.of(field, "must be http://host/path or https://host/path")
    if parts.username is not None or parts.password is not None or "#" in url:
        raise InvalidField.of(field, "must hold no credentials and no fragment")
    port = _PORTS[parts.scheme] if port is None else port
    if port < 1024 and port not in _PORTS.values():
        raise InvalidField.of(field, "must use port 80, 443, or one from 1024 on")
    address = _literal_address(host)
    if address is not None and not allow_private and not is_public(address):
        raise InvalidField.of(field, "names an address that is not public")
    path = parts.path or "/"
    return WebhookTarget(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path)


def resolve(target: WebhookTarget, *, allow_private: bool) -> list[str]:
    """The addresses of the target's host, each of them checked.

    Raises:
        AddressRefusedError: it has none, or one of them is not public and ``allow_private`` is false. Which of the two
            only the log tells: nobody is to learn through us what names there are inside, and where they lead.
    """
    refusal = f"{target.host} has no {'' if allow_private else 'public '}address"
    try:
        rows = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        _log.info("%s: %s", refusal, error)
        raise AddressRefusedError(refusal) from None
    addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))
    inside = [] if allow_private else [one for one in addresses if not is_public(ipaddress.ip_address(one))]
    if inside:
        _log.info("%s: it leads to %s", refusal, inside)
        raise AddressRefusedError(refusal)
    return addresses


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether ``address`` is a single machine's on the internet: not loopback, private, link-local (where clouds keep
    their metadata), shared, multicast, reserved, and no IPv6 disguise of such an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        for network, following_bits in _HIDDEN_IPV4:
            if address in ipaddress.ip_network(network):
                hidden = (int(address) >> following_bits) & 0xFFFF_FFFF
                return is_public(ipaddress.IPv4Address(hidden))
    if any(address in network for network in _REFUSED):  # a network of the other family holds no address
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
