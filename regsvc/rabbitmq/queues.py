"""The two queues of RabbitMQ: names, declarations, and explanations of a refused declaration.

They suit RabbitMQ 3.10 and 4.x alike, so arguments whose defaults differ are explicit: the types (a virtual host of 4.x
may have another default) and the delivery limit (none in 3.10, 20 in 4.x). The limit is far above what restarts of
workers cause; it exists so that a message that kills its worker is set aside in the end. Dead letters are kept in a
classic queue of bounded length: viewing one (get, then requeue) counts as a delivery in a quorum queue, which in 4.x
would drop it one day. Nothing of value is lost with them.
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
    """Return in plain words why a declaration was refused with 406; None if the reply is about something else."""
    found = _INEQUIVALENT.search(reply)
    if found is None:
        return None
    return (
        f"the queue {found['queue']} in virtual host {found['vhost']} is declared with another"
        f" {found['argument']}: {_plain(found['theirs'])} there, {_plain(found['ours'])} needed;"
        " delete that queue, or give regsvc a virtual host of its own"
    )


def _plain(value: str) -> str:
    """Return the value in `the value 'quorum' of type 'longstr'`."""
    return re.sub(r"^(?:the value )?'(.*?)'(?: of type '.*')?$", r"\1", value) or "''"
