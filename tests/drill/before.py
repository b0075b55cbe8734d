"""What is in the database before it is lost: people with sessions and factors, and sign-ups whose mail waits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import migrate
from tests.drill.servers import Grounds, ask
from tests.factors.people import Owner, own_app
from tests.programs import Program, run_program, serve_environ, talk_to
from tests.services import PASSWORD, Service
from tests.smtp_servers import Reaction, ReceivedMail, ScriptedServer

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^@>]+)@", re.MULTILINE | re.IGNORECASE)
ANN, BOB = "ann@example.com", "bob@example.com"


@dataclass
class MailServer(ScriptedServer):
    """A mail server that has room for so many mails, and asks for patience with the others."""

    room: int | None = None

    def reaction(self, step: str) -> Reaction | None:
        """Put off a recipient when there is no room."""
        found = super().reaction(step)
        if step == "RCPT" and self.room is not None:
            if self.room == 0:
                return "451 4.3.1 no room now"
            self.room -= 1
        return found

    def find(self, ids: set[str]) -> list[ReceivedMail]:
        """Return the mails with one of these ids, in the order in which they were accepted."""
        found = [(mail, _MESSAGE_ID.search(mail.data)) for mail in self.mails]
        return [mail for mail, match in found if match is not None and match[1].decode() in ids]

    def counted(self) -> Counter[str]:
        """Return how often each mail was accepted, by its Message-ID."""
        found = [_MESSAGE_ID.search(mail.data) for mail in self.mails]
        return Counter(match[1].decode() for match in found if match is not None)


@dataclass
class Lost:
    """What was there when the database was lost.

    Args:
        owner: Ann, who has an authenticator app.
        refresh_token: of Bob's session, which he ended after the backup.
        backed_up: ids of mails that were due when the dump was taken.
        sent_since: those of them that were accepted after that, by the log.
        due: ids of all mails that were due in the end.
        signed_up: how many sign-ups were accepted in all.
    """

    owner: Owner
    refresh_token: str
    backed_up: set[str] = field(default_factory=set)
    sent_since: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)
    signed_up: int = 0


def serve(
    database: str, server: ScriptedServer, folder: Path, role: str
) -> AbstractAsyncContextManager[Program]:
    """Run `regsvc serve` in a role on a database."""
    environ = serve_environ(database, folder, smtp_url=server.url, role=role)
    return run_program("serve", folder=folder, environ=environ)


async def find_due(database: str) -> set[str]:
    """Return the ids of mails that are still to be sent."""
    rows = await ask(database, "SELECT id::text FROM mails WHERE state IN ('queued', 'sending', 'delayed')")
    return {str(row[0]) for row in rows}


async def live_and_lose(grounds: Grounds, server: MailServer, folder: Path, *, waiting: int) -> Lost:
    """Fill a database, back it up, let life go on for a while, and destroy it.

    Args:
        grounds: where servers are.
        server: where mail goes.
        folder: for logs.
        waiting: sign-ups whose mail waits at the backup, and half as many after it.
    """
    async with grounds.open_first() as database:
        await migrate(database)
        async with serve(database, server, folder, "all") as program, talk_to(program, folder) as service:
            for address in (ANN, BOB):
                await confirm(service, server, address)
            tokens = (await service.post("/login", {"email": BOB, "password": PASSWORD})).json()
            ((ann,),) = await ask(database, "SELECT id FROM users WHERE email = %s", ANN)
            assert isinstance(ann, UUID)
            async with await Connection.connect(database) as conn, conn.transaction():
                owner = await own_app(conn, ann)
            await program.stop()
        lost = Lost(owner, tokens["refresh_token"])
        async with serve(database, server, folder, "api") as program, talk_to(program, folder) as service:
            for number in range(waiting):
                await service.sign_up(f"before{number}@example.com")
            lost.backed_up = await find_due(database)
            await grounds.take_base(database)
            await grounds.take_dump(database)
            # Life goes on: half of those mails are sent, people come and go.
            for number in range(waiting // 2):
                await service.sign_up(f"after{number}@example.com")
            bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
            assert (await service.client.post("/api/v1/logout", headers=bearer, json={})).status_code < 300
            await program.stop()
        already = len(server.mails)
        server.room = waiting // 2
        async with serve(database, server, folder, "worker") as program:
            await server.wait_mails(already + waiting // 2)
            await program.stop()  # which books what was accepted
            lost.sent_since = list_accepted(program)
        server.room = None
        lost.due = await find_due(database)
        lost.signed_up = 2 + waiting + waiting // 2
        await grounds.archive_rest(database)
    return lost


async def confirm(service: Service, server: ScriptedServer, address: str) -> None:
    """Sign a person up and press the link in their mail."""
    await service.sign_up(address)
    await server.wait(lambda: any(mail.recipient == address for mail in server.mails))
    (mail,) = [mail for mail in server.mails if mail.recipient == address]
    answer = await service.post("/confirm-email", {"token": read_token(mail)})
    assert answer.status_code == 200, answer.text


def read_token(mail: ReceivedMail) -> str:
    """Return the token of a mail's link."""
    text = mail.data.replace(b"=\r\n", b"").replace(b"=3D", b"=")
    found = re.search(rb"/confirm#t=([A-Za-z0-9._~-]+)", text)
    assert found is not None
    return found[1].decode()


def list_accepted(program: Program) -> set[str]:
    """Return the ids of mails that a process' log says were accepted."""
    return {str(event["mail"]) for event in program.events("mail accepted")}


def environ_of(database: str, secret: str) -> Mapping[str, str]:
    """Return what the operator's commands need."""
    return {"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": secret}
