"""One request that the application has, and its answer."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

import trio
from hypercorn.protocol.events import EndBody, Event, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from regsvc.http.server.refusals import send_problem

if TYPE_CHECKING:
    from hypercorn.typing import ASGISendEvent


class Exchange(HTTPStream):
    """Hypercorn's stream of one request; an answer without a client is dropped, a missing answer becomes a problem."""

    _written = 0  # bytes of the body

    async def handle(self, event: Event) -> None:
        """Take what the client sends, or that it is gone."""
        if isinstance(event, StreamClosed) and not self.closed and self._whole():
            # It may hang up as soon as it has the announced length, before the application says that this was all.
            self.state = ASGIHTTPState.CLOSED
            await self.config.log.access(self.scope, self.response, time() - self.start_time)
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the application sends; None when it is done."""
        if not self.closed:
            await super().app_send(message)
            if message is not None and message["type"] == "http.response.body":
                self._written += len(message.get("body", b""))
        elif message is not None:
            await (
                trio.lowlevel.checkpoint()
            )  # an application that never stops sending is to be cancelled here

    def _whole(self) -> bool:
        """Return whether as much of the body was written as the answer's header announces."""
        if self.state is not ASGIHTTPState.RESPONSE or self.scope["method"] == "HEAD" or not self._written:
            return False  # without a body the header goes out at the end alone
        return any(
            name.lower() == b"content-length" and int(value) == self._written
            for name, value in self.response["headers"]
        )

    async def _send_closed(self) -> None:
        # All of the answer is on its way: a client that hangs up from here on has not abandoned anything.
        self.state = ASGIHTTPState.CLOSED
        await self.send(EndBody(stream_id=self.stream_id))
        await self.config.log.access(self.scope, self.response, time() - self.start_time)
        if not self.closed:
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        await send_problem(self, status_code)
        self.state = ASGIHTTPState.CLOSED
