"""The two queues of RabbitMQ: what they are called, how they are declared, and what stands in the way of that.

They suit RabbitMQ 3.10 and 4.x alike, so everything is said where the defaults differ: the types (a virtual host
of 4.x may have another default) and the delivery limit (none in 3.10, 20 in 4.x). The limit is far above what
restarts of workers cause, and there at all so that a message that kills its worker is set aside in the end. Dead
letters wait in a classic queue of bounded length: looking at one (get, then requeue) is a delivery to a quorum
queue, which in 4.x would drop it one day, and nothing of value is lost with them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pamqp.common import FieldTable

MAILS = "email_confirm"
DEAD = "email_confirm.dead"
ARGUMENTS: dict[str, FieldTable] = {
    DEAD: {"x-queue-type": "classic", "x-max-length": 10_000},
    MAILS: {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",  # the default exchange, which routes to the queue of that name
        "x-dead-letter-routing-key": DEAD,
        "x-delivery-limit": 100,
    },
}

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for queue '(?P<queue>[^']+)' in vhost '(?P<vhost>[^']*)':"
    r" received (?P<ours>.+) but current is (?P<theirs>.+)"
)


def explain_refusal(reply: str) -> str | None:
    """Say in plain words why a declaration was refused with 406; None if the reply is about something else."""
    found = _INEQUIVALENT.search(reply)
    if found is None:
        return None
    return (
        f"the queue {found['queue']} in virtual host {found['vhost']} is declared with another"
        f" {found['argument']}: {_plain(found['theirs'])} there, {_plain(found['ours'])} needed;"
        " delete that queue, or give regsvc a virtual host of its own"
    )


def _plain(value: str) -> str:
    """Shorten `the value 'quorum' of type 'longstr'`."""
    return re.sub(r"^(?:the value )?'(.*?)'(?: of type '.*')?$", r"\1", value) or "''"
