"""An SMTP server that accepts everything at once, for measuring what stands in front of it.

    python bench/smtp_sink.py [--port 0] [--every 1000]

Prints `listening 127.0.0.1:PORT`, then a line for every N mails with the seconds since the first of them.
One thread, non-blocking sockets, no parsing beyond what ends a line or a mail: it should never be what is
measured.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import time

OFFERS = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 10485760\r\n"
REPLIES = {b"EHLO": OFFERS, b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}
END = b"\r\n.\r\n"


class Sink:
    """Counts mails over any number of connections."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.mails = 0
        self.connections = 0
        self.since = time.perf_counter()
        self.selector = selectors.DefaultSelector()

    def listen(self, port: int) -> None:
        """Listen on a loopback port and say which."""
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own way
        self.selector.register(listener, selectors.EVENT_READ, None)
        host, port = listener.getsockname()
        print(f"listening {host}:{port}", flush=True)

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    self.accept(key.fileobj)
                elif not key.data.advance():
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()

    def accept(self, listener: socket.socket) -> None:
        """Greet a client."""
        client, _ = listener.accept()
        client.setblocking(False)  # noqa: FBT003 - likewise
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(b"220 sink ESMTP\r\n")
        self.connections += 1
        self.selector.register(client, selectors.EVENT_READ, Talk(self, client))

    def count(self) -> None:
        """Note a mail."""
        if self.mails % self.every == 0:
            self.since = time.perf_counter()
        self.mails += 1
        if self.mails % self.every == 0:
            seconds = time.perf_counter() - self.since
            print(f"{self.mails} mails {seconds:.3f} s {self.connections} connections", flush=True)


class Talk:
    """One client's conversation; replies to what came in one piece go out in one piece (RFC 2920)."""

    def __init__(self, sink: Sink, client: socket.socket) -> None:
        self.sink = sink
        self.client = client
        self.buffer = b""
        self.in_content = False

    def advance(self) -> bool:
        """Take in what has arrived and answer it; False when the conversation is over."""
        try:
            octets = self.client.recv(262_144)
            if not octets:
                return False
            self.buffer += octets
            replies = self.answer()
            # A client that lets its replies pile up until a socket is full is none that we measure.
            return not replies or self.client.send(replies) == len(replies)
        except OSError:
            return False

    def answer(self) -> bytes:
        """Return the replies to whatever is whole in the buffer."""
        replies = []
        while True:
            if self.in_content:
                _, end, rest = self.buffer.partition(END)
                if not end:
                    break
                self.buffer, self.in_content = rest, False
                self.sink.count()
                replies.append(b"250 ok\r\n")
                continue
            line, end, rest = self.buffer.partition(b"\r\n")
            if not end:
                break
            verb = line[:4].upper()
            replies.append(REPLIES.get(verb, b"250 ok\r\n"))
            self.in_content = verb == b"DATA"
            # The line end behind DATA may be the one before the dot of an empty mail.
            self.buffer = end + rest if self.in_content else rest
        return b"".join(replies)


def main() -> None:
    """Read the options and serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--every", type=int, default=1000, metavar="N", help="mails per printed line")
    options = parser.parse_args()
    sink = Sink(options.every)
    sink.listen(options.port)
    try:
        sink.serve()
    except KeyboardInterrupt:
        print(f"{sink.mails} mails in all", flush=True)


if __name__ == "__main__":
    main()
