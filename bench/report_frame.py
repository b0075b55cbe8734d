"""From a provider's report at one process to the frame on a websocket of another.

    python bench/report_frame.py [--people 200]

Two `regsvc serve --role api` on one database. One person after the other waits at the second process on a websocket of
their own; at the first their mail is reported as bounced, as Postmark does. The time is from sending the webhook to
reading the frame that says `bounced`, by one machine's clock: the signature, the parsing, the transaction that stores
the report, suppresses the address and moves mail and attempt, the audit entry and the NOTIFY are within it.
"""

from __future__ import annotations

import base64
import time
from uuid import uuid4

from live_status import SECRETS, measure, read_people
from stand import Client, Program, execute, run
from websockets import expect, open_socket

from regsvc.security.tokens import mint_handle

CREDENTIALS = "bench:a password of the bench"
GOAL = 50  # ms

_SENT = """
    WITH attempt AS (
        INSERT INTO registrations
               (id, email, email_key, name, locale, password_hash, origin, client, state, expires_at)
        VALUES (%s, %s, %s, 'Person', 'en', 'none', '192.0.2.0/24', 'curl', 'sent', now() + interval '1 day')
        RETURNING id)
    INSERT INTO mails (id, registration_id, kind, state, sent_at, due_at)
    SELECT %s, id, 'signup', 'sent', now(), NULL FROM attempt
"""


async def report(database: str, here: Client, there: Program, number: int) -> tuple[float, float]:
    """Let a person wait there, and report their mail here; return the seconds to the frame and to the answer."""
    registration, mail, address = uuid4(), uuid4(), f"person{number}@example.org"
    await execute(database, _SENT, registration, address, address, mail)
    told = {
        "RecordType": "Bounce",
        "ID": number,
        "Type": "HardBounce",
        "MessageID": str(uuid4()),
        "Metadata": {"regsvc_mail": str(mail)},
        "BouncedAt": "2026-11-28T03:33:54Z",
    }
    path = f"/api/v1/registrations/{registration}/live"
    stream = await open_socket(there, path, mint_handle(SECRETS, registration))
    allowed = {"Authorization": f"Basic {base64.b64encode(CREDENTIALS.encode()).decode()}"}
    async with stream:
        begun = time.perf_counter()
        status, _, content = await here.request("POST", "/api/v1/feedback/postmark", told, allowed)
        answered = time.perf_counter()
        if status != 200:
            raise SystemExit(f"the report was answered with {status} {content.decode()}")
        await expect(stream, b'"bounced"')
        return time.perf_counter() - begun, answered - begun


async def main(people: int) -> None:
    """Report one after the other."""
    await measure(people, {"feedback_postmark": CREDENTIALS}, report, GOAL)


if __name__ == "__main__":
    run(main, read_people(__doc__))
