"""A body's bytes from gunicorn's socket straight into the reader's memory.

gunicorn hands a body out through buffers of its own, which copy each byte about five times: more than everything else
that a gateway does with a body it only passes on.
"""

from __future__ import annotations

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader


def receive_into(source: object, view: memoryview) -> int | None:
    """Receives into ``view`` (not empty) as much as is there, at most to the body's end; 0: the client hung up.

    None where ``source`` is no body of gunicorn's with a known length, where a read of ``source`` left something in its
    own buffer, and at the body's end: then ``source.read`` must be asked. What was received here is gone there.

    Raises: OSError and TimeoutError of the socket. gunicorn will not use the connection again.
    """
    if not isinstance(source, Body) or not isinstance(source.reader, LengthReader) or source.buf.tell():
        return None
    reader = source.reader
    size = min(len(view), reader.length)
    if size == 0 or not isinstance(reader.unreader, SocketUnreader):
        return None
    came_with_the_head = reader.unreader.buf.getbuffer().nbytes
    if came_with_the_head:
        received = min(size, came_with_the_head)
        view[:received] = reader.unreader.read(received)
    else:
        try:
            received = reader.unreader.sock.recv_into(view[:size])
        except BaseException:
            source.failed = True  # where the next request begins is not known
            raise
    reader.length -= received
    return int(received)
