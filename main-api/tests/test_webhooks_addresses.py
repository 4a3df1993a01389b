"""Where webhooks may go."""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Any

import pytest

from enlight.main_api.webhooks.addresses import (
    AddressRefusedError,
    WebhookTarget,
    is_public,
    parse_webhook_url,
    resolve,
)
from enlight.servicekit.errors import InvalidField

PUBLIC = ["1.1.1.1", "93.184.216.34", "223.255.255.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "::ffff:0:127.0.0.1",  # as stateless translators write IPv4
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "2606:4700:4700::1111%lo",  # on one of this machine's own networks
    "4000::1",  # not given to anybody yet
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_the_inside_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [address for address in NOT_PUBLIC if "%" not in address])
def test_an_inside_address_in_the_url_is_refused_at_once(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidField, match="X-Webhook-URL: names an address that is not public"):
        parse_webhook_url(f"http://{host}/hook", field="X-Webhook-URL", allow_private=False)
    # In one's own network it may be meant
    assert parse_webhook_url(f"http://{host}/hook", field="x", allow_private=True).host == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://",
        "http:///path",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://example.com/#part",
        "http://example.com\\@127.0.0.1/",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Other: 1",
        "http://exämple.com/",
        "http://example.com:99999/",
        "http://example.com:25/",
        "http://[::1/",
        "http://[fe80::1%25lo]/",
        "http://example.com/" + "a" * 2048,
    ],
)
def test_what_is_no_plain_http_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidField, match="X-Webhook-URL"):
        parse_webhook_url(url, field="X-Webhook-URL", allow_private=True)


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("http://Example.com", WebhookTarget("http", "example.com", 80, "/"), "example.com"),
        ("https://example.com/a?b=c", WebhookTarget("https", "example.com", 443, "/a?b=c"), "example.com"),
        ("https://example.com:8443/", WebhookTarget("https", "example.com", 8443, "/"), "example.com:8443"),
        ("http://[2606:4700::1]/", WebhookTarget("http", "2606:4700::1", 80, "/"), "[2606:4700::1]"),
    ],
)
def test_a_url_is_taken_apart(url: str, target: WebhookTarget, host_header: str) -> None:
    assert parse_webhook_url(url, field="x", allow_private=False) == target
    assert target.host_header == host_header


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1"])
def test_a_name_or_a_number_that_means_loopback_is_refused(host: str) -> None:
    target = parse_webhook_url(f"http://{host}:8080/", field="x", allow_private=False)
    with pytest.raises(AddressRefusedError, match="has no public address"):
        resolve(target, allow_private=False)
    assert {"127.0.0.1", "::1"} & set(resolve(target, allow_private=True))


@pytest.mark.parametrize("host", ["localhost.", "127.0.0.1.", "LOCALHOST", "127.0.0.1.nip.invalid", "0", "0x7f.1"])
def test_another_way_to_write_loopback_leads_nowhere_either(host: str) -> None:
    # Which of them mean anything is the name server's affair; refused as an address or as none they are all
    target = parse_webhook_url(f"http://{host}/", field="x", allow_private=False)
    with pytest.raises(AddressRefusedError, match="has no public address"):
        resolve(target, allow_private=False)


def test_one_inside_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name with a public and a private address (no name server of ours has one)
    def two_addresses(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    # Then it is refused, whichever of the two a connection would take
    with pytest.raises(AddressRefusedError, match=r"two\.example has no public address"):
        resolve(WebhookTarget("http", "two.example", 80, "/"), allow_private=False)


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(AddressRefusedError, match=r"no-such-name\.invalid has no address"):
        resolve(WebhookTarget("http", "no-such-name.invalid", 80, "/"), allow_private=True)


def test_a_refusal_does_not_tell_which_names_there_are_inside(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = []
    for host in ("localhost", "no-such-name.invalid"):
        with pytest.raises(AddressRefusedError) as refused:
            resolve(WebhookTarget("http", host, 80, "/"), allow_private=False)
        told.append(str(refused.value).replace(host, "<host>"))
    assert told == ["<host> has no public address"] * 2
    # Whoever runs the gateway finds it in the log
    assert "127.0.0.1" in caplog.text or "::1" in caplog.text
