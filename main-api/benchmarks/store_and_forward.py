"""A gateway that does nothing: each body is received whole, sent on, and its answer likewise. What P12 cannot go below.

No headers are looked at but the length, nothing is checked, hashed or kept; memory is used again.
"""

from __future__ import annotations

import re
import socket
import sys

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_LARGEST_BYTES = 16_000_000


def serve(port: int, service_port: int) -> None:
    """Serves for ever on the loopback, one connection after the other."""
    asked, answered = memoryview(bytearray(_LARGEST_BYTES)), memoryview(bytearray(_LARGEST_BYTES))
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, socket.create_connection(("127.0.0.1", service_port)) as service:
                if message := _receive(connection, asked):
                    service.sendall(message)
                    connection.sendall(_receive(service, answered))


def _receive(connection: socket.socket, memory: memoryview) -> memoryview:
    """A whole message, head and body; empty: the other side closed."""
    filled = end = 0
    while not end:
        piece_bytes = connection.recv_into(memory[filled:])
        if not piece_bytes:
            return memory[:0]
        filled += piece_bytes
        end = bytes(memory[: min(filled, 8192)]).find(b"\r\n\r\n") + 1
    length = _LENGTH.search(bytes(memory[: end + 3]))
    whole = end + 3 + (int(length[1]) if length else 0)
    while filled < whole:
        filled += connection.recv_into(memory[filled:whole])
    return memory[:whole]


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
