"""Pages that wait for a mail: the way to the mailbox, and why nothing came yet, also without scripts."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from regsvc.accounts.users.pending_change import find_pending
from regsvc.http.pages.texts import load_words
from regsvc.http.pages.waiting.absence import explain_absence
from regsvc.http.pages.waiting.mailbox import Mailbox
from regsvc.mail.receivers.webmail import find_webmail
from regsvc.postgres.pool import Pool
from tests.dns_servers import open_dns_server
from tests.services import PASSWORD, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}
SENDER = "no-reply@example.org"
ACCEPTED = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("email", "exchanger", "name", "host"),
    [
        ("ann@gmail.com", None, "Gmail", "mail.google.com"),
        ("ann@Outlook.com", None, "Outlook", "outlook.live.com"),
        ("ann@hotmail.co.uk", None, "Outlook", "outlook.live.com"),
        ("ann@yahoo.com.br", None, "Yahoo", "mail.yahoo.com"),
        ("ann@yahoo.co.jp", None, "Yahoo! メール", "mail.yahoo.co.jp"),
        ("ann@icloud.com", None, "iCloud", "www.icloud.com"),
        ("ann@gmx.de", None, "GMX", "www.gmx.net"),
        ("ann@company.de", "aspmx.l.google.com.", "Gmail", "mail.google.com"),
        ("ann@company.de", "company-de.mail.protection.outlook.com", "Outlook", "outlook.office.com"),
        ("ann@company.de", "mx01.mail.icloud.com", "iCloud", "www.icloud.com"),
        ("ann@company.de", "google.com.evil.example", None, None),
        ("ann@gmail.com.evil.example", None, None, None),
        ("ann@company.de", "mx.company.de", None, None),
    ],
)
def test_the_mailbox_is_known_by_domain_or_exchanger(
    email: str, exchanger: str | None, name: str | None, host: str | None
) -> None:
    found = find_webmail(email, SENDER, exchanger)
    assert (found and found.name, found and found.url.split("/")[2]) == (name, host)


def test_an_address_stays_one_part_of_the_link() -> None:
    found = find_webmail('a/../#?&"<b@gmail.com', "a&b@example.org")
    assert found is not None
    assert found.url == (
        "https://mail.google.com/mail/u/a%2F..%2F%23%3F%26%22%3Cb@gmail.com/"
        "#search/from%3A(a%26b%40example.org)+in%3Aanywhere"
    )


async def test_a_script_is_told_the_mailbox_by_domain_or_dns_and_other_sites_are_not(
    database: str, tmp_path: Path
) -> None:
    zone = {
        "company.de": {"MX": ["10 company-de.mail.protection.outlook.com."]},
        "plain.de": {"A": ["192.0.2.1"]},
    }
    async with (
        open_dns_server(zone) as server,
        run_test_service(database, tmp_path, {"REGSVC_DNS_SERVER": server.setting}) as service,
    ):
        told = {}
        for domain in ("gmail.com", "company.de", "plain.de", "gone.de", "example.com"):
            answer = await service.client.post("/mailbox", json={"email": f"ann@{domain}"}, headers=OWN)
            told[domain] = (answer.json()["webmail"] or {}).get("name")
        assert told == {
            "gmail.com": "Gmail",
            "company.de": "Outlook",
            "plain.de": None,
            "gone.de": None,
            "example.com": None,
        }
        assert {name for name, _ in server.asked} == {"company.de", "plain.de", "gone.de"}
        answer = await service.client.post("/mailbox", json={"email": "ann"}, headers=OWN)
        assert answer.json() == {"webmail": None, "usual": None}
        foreign = {"Sec-Fetch-Site": "cross-site"}
        refused = await service.client.post("/mailbox", json={"email": "ann@gmail.com"}, headers=foreign)
        assert refused.status_code == 403


async def test_without_scripts_the_page_has_the_way_to_the_mailbox_and_says_why_nothing_came(
    database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path) as service:
        form = {"name": "Ann", "email": "ann@gmail.com", "password": PASSWORD}
        await service.client.post("/signup", data=form, headers=OWN)
        await service.wait_mail("ann@gmail.com")
        text = ""
        with trio.fail_after(20):
            while "took it at" not in text:
                text = html.unescape((await service.client.get("/signup/status")).text)
        link = re.search(r'<a [^>]*href="(https://mail\.google\.com/[^"]+)"[^>]*>Open Gmail</a>', text)
        assert link
        assert "search/from%3A(no-reply%40example.org)" in link[1]
        assert "No email yet? The mail server of gmail.com took it at" in text
        assert "Look for an email from no-reply@example.org" in text
        assert 'action="/signup/code"' in text
        assert 'action="/signup/resend"' in text
        assert 'action="/signup/address"' in text


@dataclass
class Waited:
    """A mail that is waited for."""

    state: str
    expires_at: datetime | None = None
    delivered_at: datetime | None = None


@pytest.mark.parametrize(
    ("waited", "usual", "after", "told"),
    [
        (Waited("queued"), 20.0, 5, "has not taken it yet"),
        (Waited("sending"), None, 5, "has not taken it yet"),
        (Waited("delayed"), 20.0, 5, "has not taken it yet"),
        (Waited("sent", ACCEPTED + timedelta(days=1)), None, 5, "took it at 2026-11-28 12:00 UTC."),
        (Waited("sent", ACCEPTED + timedelta(days=1)), 120.0, 5, "Expect it by 2026-11-28 12:02 UTC."),
        (
            Waited("sent", ACCEPTED + timedelta(days=1)),
            120.0,
            300,
            "usually arrives by 2026-11-28 12:02 UTC.",
        ),
        (Waited("sent", ACCEPTED, ACCEPTED), 120.0, 5, "put it into your mailbox at 2026-11-28 12:00 UTC."),
        (Waited("bounced"), 20.0, 5, ""),
        (Waited("expired", ACCEPTED), 20.0, 5, ""),
    ],
)
def test_an_absence_is_explained_from_the_facts_of_the_mail(
    waited: Waited, usual: float | None, after: int, told: str
) -> None:
    texts = load_words("Acme", None)["en"]["waiting"]
    mailbox = Mailbox("gmail.com", SENDER, None, usual)
    said = explain_absence(texts, waited, mailbox, now=ACCEPTED + timedelta(seconds=after))
    assert told in said
    assert bool(said) == bool(told)


async def show_account(service: Service) -> str:
    return html.unescape((await service.client.get("/account")).text)


async def test_the_account_shows_how_the_mail_of_an_email_change_fares(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm("ann@gmail.com")
        login = {"email": "ann@gmail.com", "password": PASSWORD}
        await service.client.post("/login", data=login, headers=OWN)
        assert 'class="waiting"' not in await show_account(service)
        form = {"email": "ann@outlook.com", "password": PASSWORD}
        answer = await service.client.post("/account/address", data=form, headers=OWN)
        assert answer.status_code == 303
        token = await service.wait_link("email-change", "ann@outlook.com")
        text = ""
        with trio.fail_after(20):
            while "took it at" not in text:
                text = await show_account(service)
        assert ">Open Outlook</a>" in text
        assert "The mail server of outlook.com took it at" in text
        async with pool.connection() as conn:
            await conn.execute(
                "UPDATE mails SET report = 'bounced', report_kind = 'hard', report_reason = 'no_such_mailbox',"
                " reported_at = now() WHERE kind = 'email_change'"
            )
        text = await show_account(service)
        assert "We could not deliver the email to ann@outlook.com." in text
        assert "does not know this address" in text
        assert re.search(r'<input id="email" name="email"[^>]* value="ann@outlook\.com"', text)
        await service.post("/me/email/confirm", {"token": token, "password": PASSWORD})
        assert 'class="waiting"' not in await show_account(service)


async def test_a_mail_held_back_for_its_address_is_shown_as_sent(pool: Pool) -> None:
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (gen_random_uuid(),"
            " 'a@example.com', 'a@example.com', 'A', 'hash') RETURNING id"
        )
        ((user_id,),) = await cursor.fetchall()
        await conn.execute(
            "WITH asked AS (INSERT INTO address_moves (id, user_id, old_email, old_key, new_email, new_key)"
            " VALUES (gen_random_uuid(), %s, 'a@example.com', 'a@example.com', 'b@example.com', 'b@example.com')"
            " RETURNING id, user_id) INSERT INTO mails (id, kind, user_id, move_id, email, email_key, state,"
            " silent, reason, due_at) SELECT gen_random_uuid(), 'email_change', user_id, id, 'b@example.com',"
            " 'b@example.com', 'delayed', true, 'held_back', now() + interval '1 hour' FROM asked",
            (user_id,),
        )
        shown = await find_pending(conn, user_id)
    assert shown is not None
    assert (shown.state, shown.reason, shown.next_try_at, shown.delivered_at) == ("sent", None, None, None)
