"""What the handlers work with: made once at start, found by every handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import trio

from regsvc.accounts.users.acting_user import ActingUsers
from regsvc.flows.service import Service
from regsvc.http.current import get_app
from regsvc.http.feedback.state import Intake
from regsvc.http.health.standing import Process
from regsvc.http.request.forwarding import ForwardingTroubles
from regsvc.http.turns import Turns
from regsvc.http.waiting_room import WaitingRoom
from regsvc.http.websocket_limits import OpenSockets
from regsvc.live import LiveHub
from regsvc.postgres.readiness import Readiness
from regsvc.processes.member import Member
from regsvc.security.signing.key_rings import KeyRings
from regsvc.supervisor import SupervisorStatistics

_KEY = "REGSVC"


@dataclass(frozen=True)
class Context(Service):
    """Everything that a handler may reach for: what flows work with, and what only HTTP needs.

    Args:
        hub: who waits for which registration.
        readiness: looks whether the database is ready.
        key_rings: what access tokens are signed with.
        stopping: set once the process is asked to end.
        children: how the children of this process are.
        restart: starts a child of this process again, by its name.
        dev: this is `regsvc dev`: a newcomer is shown around.
        member: this process among its siblings, if there are several.
        sockets: which are open.
        turns: which requests of each client are worked on.
        intake: what requests with reports about mails share.
        forwarding: what was wrong with forwarding headers so far.
        acting_users: looks up the users of access tokens.
        waiting_room: who waits over a websocket.
    """

    hub: LiveHub
    readiness: Readiness
    key_rings: KeyRings
    stopping: trio.Event
    children: Callable[[], SupervisorStatistics]
    restart: Callable[[str], None]
    dev: bool = False
    member: Member | None = None
    sockets: OpenSockets = field(default_factory=OpenSockets)
    turns: Turns = field(default_factory=Turns)
    intake: Intake = field(default_factory=Intake)
    forwarding: ForwardingTroubles = field(default_factory=ForwardingTroubles)
    acting_users: ActingUsers = field(init=False)
    waiting_room: WaitingRoom = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "acting_users", ActingUsers(self.pool))  # as dataclasses says: it is frozen
        object.__setattr__(self, "waiting_room", WaitingRoom(self.hub, self.pool, self.stopping))

    @property
    def process(self) -> Process:
        """What probes are told of."""
        return Process(
            self.settings,
            self.pool,
            self.lane,
            self.hub,
            self.readiness,
            self.stopping,
            self.children,
            self.forwarding,
            self.member,
        )


def put_context(config: dict[str, object], context: Context) -> None:
    """Leave the context in an application's configuration."""
    config[_KEY] = context


def get_context() -> Context:
    """Return the context of the application that handles the current request."""
    return cast("Context", get_app().config[_KEY])
