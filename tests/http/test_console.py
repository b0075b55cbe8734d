"""The operators' console: what it shows, to whom, and what it does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import unescape
from http import HTTPStatus
from itertools import pairwise
from uuid import UUID

import httpx
import pytest
import trio
from playwright.sync_api import expect

from regsvc.accounts.address import find_key
from regsvc.accounts.admin.statistics import BOUNDS, name_bounds
from regsvc.accounts.deliveries.suppression import note_bounce
from regsvc.http.pages.console.bar_chart import HEIGHT, WIDTH, make_bars
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets
from tests.databases import run_sql
from tests.http.consoles import log_in, set_role
from tests.programs import SharedProgram
from tests.services import PASSWORD
from tests.visits import PHONE, Person, Visit, find_barriers, weigh

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

OWN = {"Sec-Fetch-Site": "same-origin"}
ROOMS = [
    "/admin",
    "/admin/mails",
    "/admin/users",
    "/admin/invitations",
    "/admin/suppressions",
    "/admin/webhooks",
    "/admin/audit",
    "/admin/templates",
]
NOBODY = UUID(int=1)
DEEDS = [
    "/admin/children/janitor/restart",
    f"/admin/mails/{NOBODY}/replay",
    f"/admin/mails/{NOBODY}/cancel",
    f"/admin/users/{NOBODY}/disable",
    f"/admin/suppressions/{NOBODY}/lift",
    f"/admin/webhooks/{NOBODY}/remove",
    f"/admin/webhooks/{NOBODY}/deliveries/{NOBODY}/replay",
]


@pytest.fixture
def admin(person: Person) -> Person:
    person.join()
    set_role(person, "admin")
    return person


@contextmanager
def enter(person: Person) -> Iterator[httpx.Client]:
    """Give a client that is logged in."""
    with httpx.Client(base_url=person.program.url, timeout=60) as client:
        client.post("/login", data={"email": person.address, "password": PASSWORD}, headers=OWN)
        yield client


@pytest.mark.parametrize("path", ROOMS)
def test_nobody_but_an_administrator_gets_in(path: str, person: Person) -> None:
    assert httpx.get(f"{person.program.url}{path}").headers["Location"] == "/login"
    person.join()
    with enter(person) as client:
        assert client.get(path).status_code == HTTPStatus.FORBIDDEN
        set_role(person, "admin")
        assert client.get(path).status_code == HTTPStatus.OK
        set_role(person, "user")
        assert client.get(path).status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("path", DEEDS)
def test_nobody_but_an_administrator_does_anything(path: str, person: Person) -> None:
    person.join()
    with enter(person) as client:
        assert client.post(path, data={"": ""}, headers=OWN).status_code == HTTPStatus.FORBIDDEN
        set_role(person, "admin")
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            answer = client.post(path, data={"": ""}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (HTTPStatus.FORBIDDEN, "origin_not_allowed")
        assert client.get(path).status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


def test_the_overview_moves_by_itself(admin: Person, visit: Callable[..., Visit]) -> None:
    page = log_in(visit(), admin)
    page.get_by_role("link", name="Console").click()
    signed_up = page.locator(".tiles div").filter(has_text="Signed up").locator("dd")
    before = int(signed_up.text_content() or "")
    Person(admin.program).sign_up()
    expect(signed_up).to_have_text(str(before + 1))
    expect(page.get_by_role("img", name=re.compile("Sign-ups by hour: .*confirmed"))).to_be_visible()
    expect(page.get_by_text("Email is being sent.")).to_be_visible()


def test_a_part_is_restarted_and_the_one_that_answers_cannot_be(
    admin: Person, visit: Callable[..., Visit]
) -> None:
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="janitor", exact=True))
    restarts = int(row.get_by_role("cell").nth(1).text_content() or "")
    page.get_by_role("button", name="Restart janitor").click()
    expect(row.get_by_role("cell").nth(1)).to_have_text(str(restarts + 1))
    expect(page.get_by_role("button", name="Restart http")).to_have_count(0)
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("rowheader", name="child_restarted").first).to_be_visible()


def test_a_mail_is_found_and_sent_again(admin: Person, visit: Callable[..., Visit]) -> None:
    somebody = Person(admin.program)
    somebody.sign_up()
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin/mails")
    page.get_by_label("Address").fill(somebody.address)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody a").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).not_to_be_empty()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("heading", name=f"Message to {somebody.address}")).to_be_visible()
    expect(page.get_by_text("replayed at")).to_be_visible()


def test_a_user_is_disabled_and_enabled_and_nobody_disables_themselves(
    admin: Person, visit: Callable[..., Visit]
) -> None:
    somebody = Person(admin.program)
    somebody.join()
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin/users?search={somebody.address}")
    page.get_by_role("button", name=f"Disable: {somebody.address}").click()
    expect(page.get_by_text("disabled").last).to_be_visible()
    assert somebody.log_in() == 401
    page.get_by_role("button", name=f"Enable: {somebody.address}").click()
    expect(page.get_by_role("button", name=f"Disable: {somebody.address}")).to_be_visible()
    assert somebody.log_in() == 200
    page.goto(f"{admin.program.url}/admin/users?search={admin.address}")
    page.get_by_role("button", name=f"Disable: {admin.address}").click()
    expect(page.get_by_role("alert")).not_to_be_empty()


def test_a_suppressed_address_is_found_and_lifted(admin: Person, visit: Callable[..., Visit]) -> None:
    """It is looked up by its MAC; the list holds no address, and the audit log says who lifted it."""
    address = Person(admin.program).address
    database = admin.program.environ["REGSVC_DATABASE_URL"]
    secrets = Secrets(admin.program.environ["REGSVC_SECRET_KEY"].encode())

    async def add() -> None:
        async with await Connection.connect(database) as conn:
            await note_bounce(
                conn,
                secrets,
                find_key(address) or "",
                kind="hard",
                reason="no_such_mailbox",
                at=datetime.now(UTC),
            )

    trio.run(add)
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin")
    page.get_by_role("link", name="Suppressed").click()
    expect(page.get_by_text("no_such_mailbox").first).to_be_visible()
    assert address not in page.content()
    for wanted, rows in (("nobody@example.org", 0), (address, 1)):
        page.get_by_role("textbox", name="Address").fill(wanted)
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("button", name=re.compile("^Lift: other"))).to_have_count(rows)
    page.get_by_role("button", name=re.compile("^Lift: other")).click()
    page.goto(f"{admin.program.url}/admin/suppressions?address={address}")
    expect(page.get_by_text("No addresses found.")).to_be_visible()
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("rowheader", name="suppression_lifted").first).to_be_visible()


@pytest.mark.parametrize(
    ("reply", "remedy"),
    [
        ("550 5.1.90 daily limit", "Wait until tomorrow"),
        ("554 5.2.252 SendAsDenied", "Grant it Send As"),
        ("550 5.7.26 unauthenticated", "Publish an SPF record"),
        ("550 5.7.30 Basic authentication is not supported", "auth=xoauth2"),
        ("550 5.7.515 Access denied", "SPF, DKIM and DMARC must all pass"),
        ("550 5.4.5 Daily user sending limit exceeded", "Add a second route"),
        ("554 Message rejected: Email address is not verified", "Verify the domain"),
    ],
    ids=["5.1.90", "5.2.252", "5.7.26", "5.7.30", "5.7.515", "5.4.5", "unverified"],
)
def test_what_is_about_us_stands_on_the_overview_with_its_remedy(
    reply: str, remedy: str, admin: Person
) -> None:
    """A closed route, and receivers that throttle, in seconds. The rows go again: the program is shared."""
    database = admin.program.environ["REGSVC_DATABASE_URL"]
    name = f"route-of-{admin.address.partition('@')[0]}"
    run_sql(
        database,
        "INSERT INTO mail_routes (name, open, failures, reason, reply, opened_at) "
        f"VALUES ('{name}', true, 3, 'policy_refused', '{reply}', now())",
        "INSERT INTO mail_families (family, held_until, probe_at) "
        f"VALUES ('{name}.example', now() + interval '90 seconds', now())",
    )
    try:
        with enter(admin) as client:
            deadline = time.monotonic() + 20
            while name not in (page := unescape(client.get("/admin").text)):
                assert time.monotonic() < deadline, page
    finally:
        run_sql(
            database,
            f"DELETE FROM mail_routes WHERE name = '{name}'",
            f"DELETE FROM mail_families WHERE family = '{name}.example'",
        )
    assert f"Route {name} is closed" in page
    assert reply in page
    assert remedy in page
    assert f"{name}.example (2 min)" in page


def test_names_and_replies_stay_text(admin: Person, visit: Callable[..., Visit]) -> None:
    somebody = Person(admin.program)
    somebody.join()
    evil = "<img src=x onerror=alert(1)>"
    database = admin.program.environ["REGSVC_DATABASE_URL"]
    run_sql(
        database,
        f"UPDATE users SET name = '{evil}' WHERE email = '{somebody.address}'",
        f"UPDATE mails SET reply = '{evil}' WHERE registration_id = "
        f"(SELECT id FROM registrations WHERE email = '{somebody.address}')",
    )
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin/users?search={somebody.address}")
    expect(page.get_by_text(evil).first).to_be_visible()
    page.goto(f"{admin.program.url}/admin/mails?address={somebody.address}")
    page.locator("tbody a").click()
    expect(page.get_by_text(evil).first).to_be_visible()


@pytest.mark.parametrize(
    "query",
    ["?state=x", "?address=x", "?cursor=x&limit=0", "?search=%00", "?user=x", "?since=x", "?kind=&state="],
)
def test_filters_that_make_no_sense_filter_nothing(query: str, admin: Person) -> None:
    with enter(admin) as client:
        for room in ROOMS:
            assert client.get(f"{room}{query}").status_code == HTTPStatus.OK


def test_the_filters_of_a_list_offer_all_that_the_api_takes(admin: Person) -> None:
    with enter(admin) as client:
        described = client.get("/openapi.json").json()["paths"]
        for room in ("mails", "users", "audit"):
            choices = {
                name: re.findall(r"<option[^>]*>([a-z_]+)", content)[1:]  # the first is "any"
                for name, content in re.findall(
                    r'<select name="(\w+)">(.*?)</select>', client.get(f"/admin/{room}").text, re.DOTALL
                )
            }
            taken = {
                each["name"]: each["schema"]["enum"]
                for each in described[f"/api/v1/admin/{room}"]["get"]["parameters"]
                if "enum" in each["schema"]
            }
            assert choices == taken
            assert choices


def test_a_list_after_a_refused_action_keeps_its_filters_and_goes_on(admin: Person) -> None:
    name = f"Fill {admin.address}"
    run_sql(
        admin.program.environ["REGSVC_DATABASE_URL"],
        f"""
        INSERT INTO users (id, email, email_key, name, password_hash)
        SELECT gen_random_uuid(), n || '.{admin.address}', n || '.{admin.address}', '{name}', 'x'
          FROM generate_series(1, 30) n
        """,
        f"UPDATE users SET name = '{name}' WHERE email = '{admin.address}'",
    )
    with enter(admin) as client:
        alone = client.get(f"/admin/users?search={admin.address}")
        (deed,) = re.findall(r'action="(/admin/users/[^/"]*/disable)"', alone.text)
        refused = client.post(deed, data={"search": name, "state": "active"}, headers=OWN)
        assert refused.status_code == HTTPStatus.CONFLICT
        (older,) = re.findall(r'href="(/admin/users\?[^"]*cursor=[^"]*)"', refused.text)
        following = client.get(unescape(older))
    assert following.status_code == HTTPStatus.OK
    shown = [set(re.findall(rf"\d+\.{admin.address}", page.text)) for page in (refused, following)]
    assert shown[0].isdisjoint(shown[1])
    assert len(shown[0] | shown[1]) == 30


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_bars_anybody(color_scheme: str, admin: Person, visit: Callable[..., Visit]) -> None:
    page = log_in(visit(color_scheme=color_scheme, viewport=PHONE), admin)
    for room in ROOMS:
        page.goto(f"{admin.program.url}{room}")
        assert 10_000 < weigh(page) <= 60_000
        assert find_barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_a_refusal_bars_nobody(color_scheme: str, person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    page = log_in(visit(color_scheme=color_scheme, viewport=PHONE), person)
    page.goto(f"{person.program.url}/admin")
    expect(page.get_by_text("Only administrators")).to_be_visible()
    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_bars_stand_side_by_side_within_the_drawing() -> None:
    bars = make_bars([("a", 0, 0), ("b", 4, 1), ("c", 2, 2)])
    assert [bar.height for bar in bars] == [0, HEIGHT - 2, (HEIGHT - 2) / 2]
    assert bars[1].part_height == bars[1].height / 4
    assert bars[-1].x + bars[-1].width < WIDTH
    assert all(one.x + one.width < two.x for one, two in pairwise(bars))
    assert [bar.height for bar in make_bars([("a", 0, 0)])] == [0]
    assert make_bars([]) == []


def test_every_bar_has_a_name_of_its_own() -> None:
    assert len(set(name_bounds())) == len(BOUNDS)


def test_the_console_is_kept_nowhere(admin: Person, shared_program: SharedProgram) -> None:
    with enter(admin) as client:
        for room in ROOMS:
            answer = client.get(room)
            assert answer.headers["Cache-Control"] == "no-store"
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert len(answer.content) < 60_000


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_every_kind_of_mail_is_shown_in_every_language(
    language: str, admin: Person, visit: Callable[..., Visit]
) -> None:
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin/templates")
    kinds = page.get_by_label("Email").locator("option").all_text_contents()
    assert len(kinds) >= 9
    page.get_by_label("Language").select_option(language)
    page.get_by_label("Email").select_option("confirm")
    page.get_by_role("button", name="Show").click()
    expect(page.frame_locator("iframe").locator("html")).to_have_attribute("lang", language)
    expect(page.frame_locator("iframe").get_by_text("123456")).to_be_visible()
    assert find_barriers(page) == []
    with enter(admin) as client:
        for kind in kinds:
            answer = client.get(f"/admin/templates/{kind}?language={language}")
            assert f'lang="{language}"' in answer.text
            assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert client.get("/admin/templates/nothing").status_code == HTTPStatus.NOT_FOUND
        assert client.get("/admin/templates?kind=x&language=../..").status_code == HTTPStatus.OK
    assert httpx.get(f"{admin.program.url}/admin/templates/confirm").headers["Location"] == "/login"
