"""The moments that matter to an event that is published, found on the wire."""

from __future__ import annotations

from tests.faults.kill_points import ACK, KillPoint, Mark
from tests.proxies import Way

_EVENT = b"specversion"  # in every event, and in nothing else that is published
_UP, _DOWN = Way.UP, Way.DOWN
_PUBLISHED = Mark("broker", _UP, _EVENT)
_CONFIRMED = Mark("broker", _DOWN, ACK)

POINTS = (
    KillPoint(
        "kill -9 after its commit, before it is claimed",
        "any",
        (Mark("postgres", _DOWN, b"event_due"), Mark("postgres", _UP, b"")),
    ),
    KillPoint("kill -9 after its claim, before it is published", "any", (_PUBLISHED,)),
    KillPoint("kill -9 after publish, before its confirm", "any", (_PUBLISHED, _CONFIRMED)),
    KillPoint(
        "kill -9 after the confirm, before it is noted",
        "any",
        (_PUBLISHED, _CONFIRMED, Mark("postgres", _UP, b"BEGIN")),
    ),
    KillPoint(
        "kill -9 after it is noted",
        "any",
        (_PUBLISHED, _CONFIRMED, Mark("postgres", _UP, b"BEGIN"), Mark("postgres", _DOWN, b"COMMIT")),
    ),
)
