"""How much of anything one connection may take, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the HTTP server.

    Args:
        header_bytes: of a request line and its header together; more is 431 (RFC 6585 section 5).
        body_bytes: of a request's body; more is 413, before `100 Continue` where the length is announced.
        larger_bodies: prefixes of paths whose bodies may have more bytes.
        header_seconds: from the first byte of a request to the end of its header; more is 408.
        body_seconds: from there to the end of its body; more is 408.
        keep_alive: seconds that a connection may be idle between requests and before the first.
        send_seconds: in which a client has to take the next 16 KiB; one that does not is cut off.
        linger_seconds: for which a connection that was answered for the last time is still read, so that the
            answer is not lost to a reset (RFC 9112 section 9.6).
        connections: open at the same time; more get 503. Cut down to what the process may open, less a reserve.
        websocket_message: bytes of one incoming message; more is close code 1009.
        ping: seconds between two pings of a websocket (RFC 6455 section 5.5.2).
        silence: seconds without a single byte after which a websocket is closed with 4408.
        take_seconds: in which the application has to take the next message of a websocket when many wait
            already; the flood is closed with 1008.
    """

    header_bytes: int = 16_384
    body_bytes: int = 16_384
    larger_bodies: tuple[tuple[bytes, int], ...] = ()
    header_seconds: float = 10
    body_seconds: float = 15
    keep_alive: float = 75
    send_seconds: float = 15
    linger_seconds: float = 2
    connections: int = 16_384
    websocket_message: int = 8_192
    ping: float = 20
    silence: float = 45
    take_seconds: float = 10

    def most_of_body(self, target: bytes) -> int:
        """Return how many bytes the body of a request to this target may have."""
        for prefix, most in self.larger_bodies:
            if target.startswith(prefix):
                return most
        return self.body_bytes
