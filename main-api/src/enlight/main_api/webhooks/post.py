"""One POST to a stranger's server: to a checked address, without redirects, over within a fixed time."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from enlight.main_api.webhooks.addresses import AddressRefusedError, WebhookTarget, resolve

MAX_ANSWER_BYTES = 64 * 1024
"""More of an answer is not read."""


class PostFailedError(Exception):
    """No answer came: the name, the connection, the certificate, the time or the answer's form."""


class WebhookPoster:
    """Posts bodies to targets.

    Args:
        timeout_s: Limit of one post from the name's resolution on, whatever the other side does. (The time of the
            name server is the system's.)
        allow_private: Whether addresses of one's own network are allowed.
        tls: What certificates are trusted; None: the system's.
    """

    def __init__(self, *, timeout_s: float, allow_private: bool, tls: ssl.SSLContext | None = None) -> None:
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._tls = tls or ssl.create_default_context()

    def post(self, target: WebhookTarget, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer.

        Raises:
            PostFailedError: there was none.
        """
        deadline_s = time.monotonic() + self._timeout_s
        try:
            addresses = resolve(target, allow_private=self._allow_private)
            with self._connected(target, addresses, deadline_s) as connection:
                sent = {"Host": target.host_header, "Connection": "close", "Accept": "*/*", **headers}
                connection.request("POST", target.path, body=body, headers=sent)
                with connection.getresponse() as response:
                    response.read(MAX_ANSWER_BYTES)
                    status = response.status
        except AddressRefusedError as error:
            raise PostFailedError(str(error)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._refuse_late(deadline_s)
            raise PostFailedError(f"{type(error).__name__}: {str(error)[:200]}") from error
        self._refuse_late(deadline_s)
        return status

    def _refuse_late(self, deadline_s: float) -> None:
        # What was cut can look like an answer that ended, or like a receiver that hung up.
        if time.monotonic() >= deadline_s:
            raise PostFailedError(f"no whole answer within {self._timeout_s:g} s")

    @contextmanager
    def _connected(
        self, target: WebhookTarget, addresses: list[str], deadline_s: float
    ) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(target.host, target.port)
        # The connection's own way to connect would ask the name server again.
        sock = self._connect(target, addresses, deadline_s)
        with _cut_at(sock, deadline_s):
            try:
                if target.scheme == "https":
                    sock.settimeout(max(0.001, deadline_s - time.monotonic()))
                    sock = self._tls.wrap_socket(sock, server_hostname=target.host)
                connection.sock = sock
                yield connection
            finally:
                connection.close()
                sock.close()

    def _connect(self, target: WebhookTarget, addresses: list[str], deadline_s: float) -> socket.socket:
        failure: OSError = TimeoutError("no address answered")
        for place, address in enumerate(addresses):
            left_s = (deadline_s - time.monotonic()) / (len(addresses) - place)
            try:
                return socket.create_connection((address, target.port), timeout=max(0.001, left_s))
            except OSError as error:
                failure = error
        raise failure


@contextmanager
def _cut_at(sock: socket.socket, deadline_s: float) -> Iterator[None]:
    """Cuts the connection at the deadline. A socket's own timeout starts anew with each byte that trickles in."""
    duplicate = sock.dup()  # the descriptor of its own stays valid whatever becomes of the other

    def cut() -> None:
        with suppress(OSError):  # it is closed already
            duplicate.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline_s - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        duplicate.close()
