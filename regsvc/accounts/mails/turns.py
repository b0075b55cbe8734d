"""Turns on address schedules: which claimed messages are sent now, and until when the others wait."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

from regsvc.accounts.invitations.letters import InvitationLetter
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.mail_schedule import Turn
from regsvc.accounts.mails.account_mails import AccountLetter
from regsvc.accounts.mails.legacy import LegacyLetter
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.mail.queue import turns as mail_turns
from regsvc.mail.queue.jobs import Job
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets

AnyLetter: TypeAlias = Letter | LegacyLetter | InvitationLetter | AccountLetter

_NEVER = datetime.min.replace(tzinfo=UTC)


async def take_turns(
    conn: Connection, secrets: Secrets, claimed: Sequence[Job], letters: dict[UUID, AnyLetter]
) -> tuple[dict[UUID, Turn], list[Job]]:
    """Take turns for claimed messages on the schedules of their addresses.

    Of several messages of one address the newest is sent. A message takes one turn for all its attempts. Tagged
    addresses of one mailbox have their own turns and share another schedule, so that tags bring no extra messages.

    Returns:
        The next turns of the messages that must wait, and the messages whose address another transaction holds,
        removed from `letters`.
    """
    newest: dict[bytes, UUID] = {}
    keys: dict[UUID, bytes] = {}
    families: dict[UUID, bytes] = {}
    for job in sorted(claimed, key=lambda job: letters[job.id].created_at if job.id in letters else _NEVER):
        letter = letters.get(job.id)
        if letter is None or (job.attempts != 1 and not job.follows) or letter.admitted:
            continue
        keys[job.id] = (
            mail_schedule.address_key(secrets, letter.email_key)
            if isinstance(letter, LegacyLetter | InvitationLetter)
            else letter.turn(secrets)
        )
        newest[keys[job.id]] = job.id
        if (family := _find_family(secrets, letter)) is not None:
            families[job.id] = family
    if not keys:
        return {}, []
    crowded, held = await _try_family_turns(conn, newest, families) if families else ({}, set())
    asked = {
        key: mail_id for key, mail_id in newest.items() if mail_id not in crowded and mail_id not in held
    }
    taken = await mail_schedule.try_turns(conn, asked)
    # Where the newest message of an address waits for the mailbox's schedule, the older ones wait with it.
    until = {keys[mail_id]: at for mail_id, at in crowded.items()}
    later = [
        job for job in claimed if job.id in keys and keys[job.id] not in taken and keys[job.id] not in until
    ]
    for job in later:
        del keys[job.id], letters[job.id]
    early = {
        mail_id: key
        for mail_id, key in keys.items()
        if key in until or not taken[key] or newest[key] != mail_id
    }
    next_turns = await mail_schedule.find_turns(conn, set(early.values()) - set(until)) if early else {}
    if until:
        # The outcome of a message to another address stays hidden: follow the own address's message that had a turn.
        leading = await mail_schedule.find_leading(conn, until)
        next_turns |= {key: Turn(at, leading.get(key)) for key, at in until.items()}
    turns = {mail_id: next_turns[key] for mail_id, key in early.items() if next_turns[key].mail_id != mail_id}
    had = [job.id for job in claimed if job.follows and job.id in keys and job.id not in turns]
    if turns or had:
        await mail_turns.note_turns(conn, had=had, follow=turns)
    return turns, later


def _find_family(secrets: Secrets, letter: AnyLetter) -> bytes | None:
    if not isinstance(letter, AccountLetter):
        kind = "login" if isinstance(letter, Letter) and letter.is_login else "signup"
        return mail_schedule.family_key(secrets, kind, letter.email_key)
    if letter.sent_as == "password_reset":  # sent to accounts only: tags bring no extra ones
        return None
    return mail_schedule.family_key(secrets, "move", letter.email_key)


async def _try_family_turns(
    conn: Connection, newest: dict[bytes, UUID], families: dict[UUID, bytes]
) -> tuple[dict[UUID, datetime], set[UUID]]:
    """Take turns for the newest messages of tagged addresses; without an own turn, take none.

    Returns:
        The next turns of the messages that must wait, and the messages whose schedule another transaction holds.
    """
    tagged = {key: mail_id for key, mail_id in newest.items() if mail_id in families}
    early = await mail_schedule.find_early(conn, tagged)
    waiting = [mail_id for key, mail_id in reversed(tagged.items()) if key not in early]
    crowded: dict[UUID, bytes] = {}
    held: set[UUID] = set()
    while waiting:
        first = {families[mail_id]: mail_id for mail_id in reversed(waiting)}
        taken = await mail_schedule.try_family_turns(conn, first)
        crowded |= {
            mail_id: families[mail_id] for mail_id in waiting if taken.get(families[mail_id]) is False
        }
        held |= {mail_id for mail_id in waiting if families[mail_id] not in taken}
        waiting = [
            mail_id for mail_id in waiting if taken.get(families[mail_id]) and mail_id not in first.values()
        ]
    turns = await mail_schedule.next_family_turns(conn, set(crowded.values())) if crowded else {}
    return {mail_id: turns[family] for mail_id, family in crowded.items()}, held
