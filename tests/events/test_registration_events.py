"""Every way in which a sign-up goes on or ends is told once, by what really causes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from regsvc.accounts.registrations.registration import expire_registrations
from regsvc.postgres.pool import Pool
from tests.events.causes import listen, telling
from tests.http.administrators import log_in_admin
from tests.http.reports import CREDENTIALS, postmark_bounce
from tests.services import PASSWORD, Service, run_test_service

pytestmark = pytest.mark.timeout(60)
SENT = ("registration.created", "registration.sent")


@pytest.fixture
async def service(database: str, tmp_path: Path, pool: Pool) -> AsyncIterator[Service]:
    environ = {"REGSVC_FEEDBACK_POSTMARK": ":".join(CREDENTIALS)}
    async with run_test_service(database, tmp_path, environ) as service:
        await listen(pool)
        yield service


async def sign_up(service: Service, pool: Pool, address: str) -> tuple[str, str, str]:
    """Sign up, and return the id of the attempt, its handle and the id of its mail."""
    async with telling(pool, *SENT) as told:
        answer = await service.sign_up(address)
        mail = await service.wait_mail(address)
    attempt = answer.headers["Location"].rpartition("/")[2]
    assert [each["registration"] for each in told] == [attempt, attempt]
    assert [each["state"] for each in told] == ["queued", "sent"]
    mail_id = str(mail.message["Message-ID"]).strip("<>").partition("@")[0]
    return attempt, answer.headers["Regsvc-Handle"], mail_id


async def report(service: Service, report: dict[str, object]) -> int:
    """Report something as Postmark does, and return how many reports counted."""
    answer = await service.client.post("/api/v1/feedback/postmark", json=report, auth=CREDENTIALS)
    count: int = answer.json()["applied"]
    return count


def delivery(mail_id: str) -> dict[str, object]:
    """A report of a delivery."""
    return {
        "RecordType": "Delivery",
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "Recipient": "ann@example.com",
        "DeliveredAt": "2099-01-01T00:00:00Z",
        "Metadata": {"regsvc_mail": mail_id},
    }


async def test_each_way_to_confirm_is_told_once(service: Service, pool: Pool) -> None:
    confirmed = ("user.created", "registration.confirmed")
    await sign_up(service, pool, "link@example.com")
    token = (await service.wait_mail("link@example.com")).token
    async with telling(pool, *confirmed) as told:
        await service.post("/confirm-email", {"token": token})
        await service.post("/confirm-email", {"token": token})
    assert told[0]["role"] == "user"
    attempt, handle, _ = await sign_up(service, pool, "code@example.com")
    code = {"registration": attempt, "code": (await service.wait_mail("code@example.com")).code}
    async with telling(pool, *confirmed):
        answer = await service.post("/confirm-email/code", code, {"Regsvc-Handle": handle})
        assert answer.status_code == 200, answer.text
    admin = await log_in_admin(service, pool)
    by_hand, _, _ = await sign_up(service, pool, "hand@example.com")
    async with telling(pool, *confirmed):
        answer = await service.client.post(f"/api/v1/admin/registrations/{by_hand}/confirm", headers=admin)
        assert answer.status_code == 200, answer.text
    await service.prove(admin)
    await service.post("/admin/invitations", {"email": "bob@example.com"}, admin)
    invited = await service.wait_link("invite", "bob@example.com")
    async with telling(pool, "user.created"):
        body = {"token": invited, "name": "Bob", "password": PASSWORD}
        assert (await service.post("/invitations/accept", body)).status_code == 200


async def test_a_second_mail_is_told_as_sent_and_another_address_is_no_new_sign_up(
    service: Service, pool: Pool
) -> None:
    attempt, handle, _ = await sign_up(service, pool, "ann@example.com")
    async with telling(pool, "registration.sent"):
        await service.client.patch(
            f"/api/v1/registrations/{attempt}",
            json={"email": "ann@example.net"},
            headers={"Regsvc-Handle": handle},
        )
        await service.wait_mail("ann@example.net")


async def test_reports_about_a_mail_are_told_once(service: Service, pool: Pool) -> None:
    """Deliveries are shown, and so told, where nearly all mails of a family are reported."""
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO receiver_families (family, mails, reported) VALUES ('other', 100, 100)"
        )
    attempt, _, mail_id = await sign_up(service, pool, "ann@example.com")
    async with telling(pool, "registration.delivered") as told:
        assert [await report(service, delivery(mail_id)) for _ in range(2)] == [1, 0]
    assert told[0]["state"] == "sent"
    complaint = {
        **postmark_bounce(mail_id),
        "RecordType": "SpamComplaint",
        "Type": "SpamComplaint",
        "BouncedAt": "2099-01-01T00:01:00Z",
    }
    async with telling(pool, "mail.complained") as told:
        assert [await report(service, complaint) for _ in range(2)] == [1, 0]
    assert told == [{"mail": mail_id, "registration": attempt}]
    _, _, mail_id = await sign_up(service, pool, "bob@example.com")
    async with telling(pool, "registration.bounced") as told:
        await report(service, postmark_bounce(mail_id))
    assert (told[0]["kind"], told[0]["reason"]) == ("hard", "no_such_mailbox")


async def test_a_delay_on_the_way_does_not_have_the_mail_told_as_sent_again(
    service: Service, pool: Pool
) -> None:
    """The receiver put it off and took it later, in a family of which deliveries are not shown."""
    attempt, _, _ = await sign_up(service, pool, "ann@example.com")
    async with telling(pool):
        for state in ("delayed", "sent"):
            async with pool.connection() as conn:
                await conn.execute(
                    "UPDATE registrations SET state = %s, reason = CASE %s WHEN 'delayed' THEN 'deferred' END,"
                    " seq = seq + 1 WHERE id = %s",
                    (state, state, attempt),
                )


async def test_the_ends_of_a_sign_up_are_told_once(service: Service, pool: Pool) -> None:
    ended, _, _ = await sign_up(service, pool, "late@example.com")
    async with telling(pool, "registration.expired") as told, pool.connection() as conn:
        await conn.execute("UPDATE registrations SET expires_at = now() WHERE id = %s", [ended])
        await expire_registrations(conn, 500)
        await expire_registrations(conn, 500)
    assert told[0]["state"] == "expired"
    first, _, _ = await sign_up(service, pool, "ann@example.com")
    token = (await service.wait_mail("ann@example.com")).token
    async with telling(pool, "registration.repudiated") as told:
        for _ in range(2):
            await service.post("/confirm-email/repudiate", {"token": token})
    assert told[0]["registration"] == first


async def test_logins_by_code_are_told_as_sessions_and_never_as_sign_ups(
    service: Service, pool: Pool
) -> None:
    await service.confirm("cem@example.com")
    async with telling(pool, "session.started") as told:
        asked = await service.post("/login/code", {"email": "cem@example.com"})
        with trio.fail_after(20):
            while len(service.mails("cem@example.com")) < 2:  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.02)
        code = service.mails("cem@example.com")[-1].code
        answer = await service.post(
            "/login/code/verify",
            {"login": asked.json()["login"], "code": code},
            {"Regsvc-Handle": asked.headers["Regsvc-Handle"]},
        )
        assert answer.status_code == 200, answer.text
    assert told[0]["amr"] == ["otp"]
