"""Everything that the product does with its database, done once."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import product
from uuid import uuid4

import trio

from regsvc.accounts.admin import (
    mail_actions,
    mail_search,
    registration_search,
    statistics,
    user_actions,
    user_search,
)
from regsvc.accounts.audit import event_search
from regsvc.accounts.audit.record import ActorKind, By
from regsvc.accounts.deliveries import radar
from regsvc.accounts.users.user import find_credentials
from regsvc.consumer import janitor
from regsvc.jobs.claims import count_due, seconds_until_due
from regsvc.mail.outcome import Delayed
from regsvc.mail.queue import breaker, families, jobs, precedence, publishing, route_breakers, watches
from regsvc.mail.queue.verdict import Evidence
from regsvc.postgres.pool import Pool
from tests.growth.deeds import try_all
from tests.growth.rows import an_id
from tests.http.factor_calls import use_factors
from tests.http.passkey_calls import use_passkeys
from tests.services import PASSWORD, Service

OPERATOR = By("operator")
LATE = "2020-01-01T00:00:00Z"


async def live(service: Service, pool: Pool) -> None:  # noqa: PLR0915 - one thing after the other
    """Do what people do."""
    signed_up = await service.sign_up()
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    url = signed_up.headers["Location"]
    once = {"Idempotency-Key": "once"}
    body = {"email": "bob@example.com", "password": PASSWORD, "name": "Bob"}
    bob = await service.post("/register", body, once)
    await service.post("/register", body, once)
    await service.client.get(url, headers=handle)
    await service.client.patch(url, json={"email": "ann@example.net"}, headers=handle)
    mail = await service.wait_mail("ann@example.net")
    await service.post("/confirm-email/resend", {"email": "ann@example.net"})
    await service.post("/confirm-email/preview", {"token": mail.token})
    code = {"registration": url.rpartition("/")[2], "code": "000000"}
    await service.post("/confirm-email/code", code, handle)
    await service.post("/confirm-email/code", code | {"code": mail.code}, handle)
    again = await service.wait_mail("bob@example.com")
    await service.post("/confirm-email/repudiate", {"token": again.token})
    assert bob.status_code == 201
    await service.confirm("cem@example.com")
    await service.sign_up("cem@example.com")
    cem = await service.log_in("cem@example.com")
    await service.post("/login", {"email": "cem@example.com", "password": "another password"})
    tokens = (await service.post("/login", {"email": "ann@example.net", "password": PASSWORD})).json()
    tokens = (await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})).json()
    ann = {"Authorization": f"Bearer {tokens['access_token']}"}
    await service.post("/token/refresh", {"refresh_token": "t4"})
    me = "/api/v1/me"
    await service.client.get(me, headers=ann)
    await service.client.patch(me, json={"name": "Anna"}, headers=ann)
    await service.prove(ann)
    await service.client.get(f"{me}/export", headers=ann)
    await service.client.get(f"{me}/terms", headers=ann)
    events = await service.client.get(f"{me}/activity?limit=1", headers=ann)
    cursor = events.json()["next_cursor"]
    await service.client.get(f"{me}/activity?limit=1&cursor={cursor}", headers=ann)
    other = (await service.post("/login", {"email": "ann@example.net", "password": PASSWORD})).json()
    listed = (await service.client.get("/api/v1/sessions", headers=ann)).json()["sessions"]
    ended = next(each["id"] for each in listed if not each["current"])
    await service.client.delete(f"/api/v1/sessions/{ended}", headers=ann)
    await service.client.put(f"{me}/password", json={"new_password": PASSWORD + "!"}, headers=ann)
    await service.post("/me/email", {"email": "ann@example.org", "password": PASSWORD + "!"}, ann)
    moved = await service.wait_mail("ann@example.org")
    await service.post("/me/email/confirm", {"token": moved.token_for("email-change")}, ann)
    for mail in service.mails("ann@example.net"):
        if found := re.search(r"/email-undo#t=([A-Za-z0-9._~-]+)", mail.text):
            await service.post("/me/email/undo", {"token": found[1], "password": PASSWORD + "?"})
    await service.post("/challenge", {"purpose": "login", "email": "cem@example.com"})
    await log_in_by_code(service, "cem@example.com")
    await service.post("/password/forgot", {"email": "cem@example.com"})
    with trio.fail_after(20):
        while not (resets := [m for m in service.mails("cem@example.com") if "/reset#t=" in m.text]):  # noqa: ASYNC110
            await trio.sleep(0.02)
    await service.post("/password/reset", {"token": resets[0].token_for("reset"), "password": PASSWORD + "?"})
    await service.post("/logout", {}, cem)
    await service.post("/logout/all", {}, {"Authorization": f"Bearer {other['access_token']}"})
    page = {"Sec-Fetch-Site": "same-origin"}
    form = {"email": "cem@example.com", "password": PASSWORD + "?"}
    await service.client.post("/login", data=form, headers=page)
    await service.client.get("/account")
    cem = await service.log_in("cem@example.com", PASSWORD + "?")
    await service.client.request("DELETE", me, json={"password": PASSWORD + "?"}, headers=cem)
    await use_passkeys(service)
    await service.confirm("dee@example.com")
    await use_factors(service, "dee@example.com")
    await administer(service, pool)


async def log_in_by_code(service: Service, address: str) -> None:
    """Ask for a code twice, and log in with the second."""
    asked = await service.post("/login/code", {"email": address})
    handle = {"Regsvc-Handle": asked.headers["Regsvc-Handle"]}
    login = asked.json()["login"]
    await service.post("/login/code/verify", {"login": login, "code": "000000"}, handle)
    with trio.fail_after(20):
        while not (codes := [m for m in service.mails(address) if "code to log in" in m.message["Subject"]]):  # noqa: ASYNC110
            await trio.sleep(0.02)
    answer = await service.post("/login/code/verify", {"login": login, "code": codes[0].code}, handle)
    assert answer.status_code == 200, answer.text


async def administer(service: Service, pool: Pool) -> None:
    """Do what administrators do, over HTTP."""
    await service.confirm("root@example.com")
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET role = 'admin' WHERE email = 'root@example.com'")
    root = await service.log_in("root@example.com")
    for path in (
        f"/admin/users/{an_id('u')}",
        f"/admin/users/{an_id('u')}/sessions",
        f"/admin/registrations/{an_id('r')}",
        f"/admin/mails/{an_id('m')}",
        "/admin/keys",
    ):
        assert (await service.client.get(f"/api/v1{path}", headers=root)).status_code == 200, path
    for path in (
        *(f"/admin/users/{an_id('u')}/{deed}" for deed in ("disable", "enable", "end-sessions")),
        f"/admin/registrations/{an_id('r', 300)}/confirm",
        f"/admin/mails/{an_id('m', 5)}/replay",
        f"/admin/mails/{an_id('m', 303)}/cancel",
        f"/admin/mails/{an_id('m', 302)}/replay",
        "/admin/mails/replay-dead",
        "/admin/keys/rotate",
    ):
        await service.client.post(f"/api/v1{path}", headers=root)
    await service.client.delete(f"/api/v1/admin/users/{an_id('u', 6)}", headers=root)


async def look(pool: Pool) -> None:
    """Read every list with every filter, alone and together, and the overview."""
    roles: tuple[user_search.Role | None, ...] = (None, "admin")
    standings: tuple[user_search.Standing | None, ...] = (None, "disabled", "active")
    states: tuple[mail_search.State | None, ...] = (None, "dead", "sent", "queued", "delayed")
    kinds: tuple[mail_search.Kind | None, ...] = (None, "forgot", "signup")
    actors: tuple[ActorKind | None, ...] = (None, "admin", "operator")
    users = [
        user_search.Filters(search, role, standing)
        for search, role, standing in product((None, "person77", "Person"), roles, standings)
    ]
    mails = [
        mail_search.Filters(state, kind, key)
        for state, kind, key in product(states, kinds, (None, "person77@example.org"))
    ]
    events = [
        event_search.Filters(event, user, actor, doer, request)
        for event, user, actor, doer, request in product(
            (None, "user_disabled"), (None, an_id("u", 77)), actors, (None, an_id("u", 78)), (None, "x")
        )
    ]
    async with pool.connection(limit=60) as conn:
        cursor = await conn.execute(
            "SELECT min(at) + (max(at) - min(at)) / 2, min(at) + interval '1 hour' FROM audit_events"
        )
        untils = await cursor.fetchone() or ()
        for user in users:
            await user_search.list_people(conn, user, after=None, limit=50)
        for mail in mails:
            await mail_search.list_mails(conn, mail, after=None, limit=50)
        events += [
            event_search.Filters(event=event, until=until)
            for event in (None, "user_disabled", "logged_in")
            for until in untils
        ]
        for wanted in events:
            await event_search.list_events(conn, wanted, after=None, limit=50)
        await event_search.list_events(conn, event_search.Filters(), after=4000, limit=50)
        for state in ("sent", "bounced", "queued", "repudiated", "confirmed", None):
            await registration_search.list_registrations(
                conn, state=state, email_key=None, after=None, limit=50
            )
        await registration_search.list_registrations(
            conn, state=None, email_key="person77@example.org", after=None, limit=50
        )
        await statistics.make_overview(conn)
        await find_credentials(
            conn, "person77@example.org"
        )  # what a login looks up where there are no limits


async def keep_house(pool: Pool) -> None:
    """Do every chore, on what is over and on nothing."""
    async with pool.connection(limit=60) as conn:
        await conn.execute("UPDATE registrations SET expires_at = now() WHERE id = %s", [an_id("r", 600)])
        await conn.execute(
            "UPDATE sessions SET expires_at = now() WHERE id = ANY(%s)",
            [[an_id("s", n) for n in range(100, 110)]],
        )
        for _, chore in janitor.CHORES:
            await chore(conn, 20)
            await chore(conn, 20)


async def publish(pool: Pool) -> None:
    """Do what a relay does."""
    async with pool.transaction(limit=60) as conn:
        ids = [uuid4(), uuid4()]
        for each in ids:
            await jobs.add_job(conn, each, an_id("r", 3))
    async with pool.connection(limit=60) as conn:
        taken = await publishing.take_for_publishing(conn, 10)
        await publishing.find_traces(conn, taken)
        await publishing.note_published(conn, taken)
        await watches.watch_mails(conn, [an_id("r", 3)])
        await precedence.claim_best(conn, 1)
        await precedence.claim_best(conn, 1, overdue=timedelta(seconds=10))
        for best in (True, False):
            await precedence.claim_published(conn, taken[:1], best=best)
        await publishing.take_for_publishing(conn, 1, best=True)
        await publishing.release_unpublished(conn, taken)
        await publishing.strand_published(conn)
        await publishing.release_published(conn)
        await seconds_until_due(conn, jobs.MAIL_JOBS)
        await count_due(conn, jobs.MAIL_JOBS, at_most=10_000)
        await breaker.get_breaker(conn)
        await breaker.get_due_probe(conn)
        await route_breakers.note_route(conn, "a", [Evidence(Delayed("timeout", "connect"))])
        await families.hold_families(conn, ["google"])
        await families.load_held(conn)
        await families.take_tests(conn, ["google"])
        await families.give_tests_back(conn, ["google"])
        await families.release_families(conn, ["google"])
        await radar.refresh_radar(conn)
    async with pool.transaction(limit=60) as conn:
        await publishing.review_published(conn, 0)
        await mail_actions.replay_dead(conn, 10, OPERATOR)
        await user_actions.list_taken(conn, ["person77@example.org"])


async def keep(pool: Pool) -> None:
    """Do what operators, a relay and the janitor do."""
    await look(pool)
    await publish(pool)
    await keep_house(pool)
    await try_all(pool)
