"""One request that the application has, and its answer."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

import trio
from hypercorn.protocol.events import EndBody, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from regsvc.http.wire.refusals import send_problem

if TYPE_CHECKING:
    from hypercorn.typing import ASGISendEvent


class Exchange(HTTPStream):
    """Hypercorn's stream of one request; an answer to nobody is dropped, no answer becomes a problem."""

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the application sends; None when it is done."""
        if not self.closed:
            await super().app_send(message)
        elif message is not None:
            await (
                trio.lowlevel.checkpoint()
            )  # an application that never stops sending is to be cancelled here

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
