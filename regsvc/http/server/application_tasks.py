"""Running the application for the requests of one connection."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendEvent, Scope

from regsvc.http.server.events import ApplicationFailed
from regsvc.http.server.reporter import bare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.config import Config

    from regsvc.http.server.hypercorn_config import ServerConfig

    Put = Callable[[ASGIReceiveEvent], Awaitable[None]]

_DISCONNECTS = {"http.disconnect", "websocket.disconnect"}


class ApplicationTasks(TaskGroup):
    """The tasks of one connection in which the application runs.

    Args:
        config: the server's.
    """

    _nursery: trio.Nursery

    def __init__(self, config: ServerConfig) -> None:
        super().__init__()
        self._config = config

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Put:
        """Start the application on one request.

        Returns:
            What hands it an event; raises `trio.TooSlowError` if the application does not take it in time. The
            news that the client is gone never waits: an application that reads nothing is cancelled later.
        """
        to_app, from_client = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)
        self._nursery.start_soon(self._run, app, scope, from_client.receive, send)

        async def put(event: ASGIReceiveEvent) -> None:
            if event["type"] in _DISCONNECTS:
                with suppress(trio.WouldBlock):
                    to_app.send_nowait(event)
            else:
                with trio.fail_after(self._config.limits.take_seconds):
                    await to_app.send(event)

        return put

    def cancel_after(self, seconds: float) -> None:
        """Cancel what still runs after so many seconds."""
        self._nursery.cancel_scope.deadline = trio.current_time() + seconds

    async def _run(
        self,
        app: AppWrapper,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        try:
            await app(scope, receive, send, trio.to_thread.run_sync, trio.from_thread.run)
        except* Exception as errors:  # noqa: BLE001 - the barrier
            self._config.reporter.event(ApplicationFailed(bare(errors), scope["state"]["request_id"]))
        finally:
            await send(None)
