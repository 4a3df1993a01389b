"""One POST to a receiver, however it behaves."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from training_receivers import http_receiver, raw_receiver

from enlight.main_api.webhooks.addresses import parse_webhook_url
from enlight.main_api.webhooks.post import MAX_ANSWER_BYTES, PostFailedError, WebhookPoster

TIMEOUT_S = 0.5


def post(url: str, *, poster: WebhookPoster | None = None) -> int:
    poster = poster or WebhookPoster(timeout_s=TIMEOUT_S, allow_private=True)
    return poster.post(parse_webhook_url(url, field="url", allow_private=True), b"{}", {"X-Own": "1"})


def certificate(folder: Path, *names: x509.GeneralName) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for ``names``, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    file = folder / "certificate.pem"
    file.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


def test_the_request_arrives_as_it_was_given() -> None:
    with http_receiver(204) as receiver:
        assert post(f"{receiver.url}hook?a=b") == 204
    [(path, headers, body)] = receiver.received
    assert (path, body, headers["x-own"]) == ("/hook?a=b", b"{}", "1")
    assert headers["host"] == receiver.url.removeprefix("http://").rstrip("/")


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with http_receiver(302) as receiver:
        assert post(receiver.url) == 302
    assert [path for path, _, _ in receiver.received] == ["/"]


def test_nothing_is_sent_to_a_private_address() -> None:
    with http_receiver(204) as receiver:
        poster = WebhookPoster(timeout_s=TIMEOUT_S, allow_private=False)
        with pytest.raises(PostFailedError, match="has no public address"):
            post(receiver.url, poster=poster)
    assert receiver.received == []


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name server that gives another answer each time it is asked (DNS rebinding)
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host == "rebinding.example":
            asked.append(host)
            address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with http_receiver(204) as receiver:
        url = receiver.url.replace("localhost", "rebinding.example")
        # Then the first answer is used, and nobody asks again
        assert post(url) == 204
    assert asked == ["rebinding.example"]
    assert receiver.received[0][1]["host"].startswith("rebinding.example:")


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def trickling_head(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(TIMEOUT_S / 10):
        connection.sendall(b"X-More: 1\r\n")


def trickling_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while not over.wait(TIMEOUT_S / 10):
        connection.sendall(b"x")


@pytest.mark.parametrize("answer", [silent, trickling_head, trickling_body])
def test_a_receiver_that_takes_its_time_is_cut_off(answer: Any) -> None:
    with raw_receiver(answer) as url:
        started_s = time.monotonic()
        with pytest.raises(PostFailedError, match="no whole answer within"):
            post(url)
        # A socket's timeout would start anew with each byte
        assert time.monotonic() - started_s < 4 * TIMEOUT_S


def test_no_more_than_the_limit_of_an_endless_answer_is_read() -> None:
    sent = 0

    def endless(connection: socket.socket, over: threading.Event) -> None:
        nonlocal sent
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.is_set():
            sent += connection.send(b"x" * 4096)

    with raw_receiver(endless) as url:
        assert post(url) == 200
    # The kernel's buffers hold some more than was read
    assert sent < MAX_ANSWER_BYTES + (8 << 20)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 99999 no\r\n\r\n"])
def test_an_answer_that_is_no_http_is_a_failure(answer: bytes) -> None:
    with raw_receiver(lambda connection, over: connection.sendall(answer)) as url, pytest.raises(PostFailedError):
        post(url)


def test_a_refused_connection_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PostFailedError, match="refused"):
        post(f"http://localhost:{port}/")


def test_a_certificate_must_be_for_the_name(tmp_path: Path) -> None:
    right, trust = certificate(tmp_path, x509.DNSName("localhost"))
    poster = WebhookPoster(timeout_s=5, allow_private=True, tls=trust)
    with http_receiver(204, tls=right) as receiver:
        assert post(receiver.url, poster=poster) == 204
    # Given a certificate for the address that the name leads to, not for the name
    wrong, trust = certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("x.example"))
    poster = WebhookPoster(timeout_s=5, allow_private=True, tls=trust)
    with http_receiver(204, tls=wrong) as receiver:
        with pytest.raises(PostFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            post(receiver.url, poster=poster)
        assert receiver.received == []


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    own, _ = certificate(tmp_path, x509.DNSName("localhost"))
    with http_receiver(204, tls=own) as receiver, pytest.raises(PostFailedError, match="CERTIFICATE_VERIFY_FAILED"):
        post(receiver.url)
