"""The linking rules: who is joined to which account, and who is not."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from regsvc.accounts.identities import linking
from regsvc.accounts.identities.linking import Account, Decision, decide
from regsvc.config.identities.identity_settings import ProviderSettings
from regsvc.security.identities.proven_identity import Trust, judge_address
from tests.identities.issuer import Issuer, provider_environment
from tests.identities.visitor import count_rows, execute, visiting
from tests.services import PASSWORD, Service, run_test_service

GOOGLE = ProviderSettings("google", "https://accounts.google.com", "id")
MICROSOFT = ProviderSettings("microsoft", "https://login.microsoftonline.com/common/v2.0", "id")
APPLE = ProviderSettings("apple", "https://appleid.apple.com", "id")
GITLAB = ProviderSettings("gitlab", "https://gitlab.com", "id")
GITHUB = ProviderSettings("github", "https://github.com", "id")
OWN = ProviderSettings("own", "https://id.corp.example", "id", domains=frozenset({"corp.example"}))
FALSE_GOOGLE = ProviderSettings("google", "https://google.attacker.example", "id")
TENANT = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"

ADDRESSES: list[tuple[ProviderSettings, str, dict[str, Any], Trust]] = [
    (GOOGLE, "ann@gmail.com", {"email_verified": True}, "authoritative"),
    (GOOGLE, "Ann@GMail.com", {"email_verified": True}, "authoritative"),
    (GOOGLE, "ann@gmail.com", {"email_verified": False}, "claimed"),
    (GOOGLE, "ann@gmail.com", {}, "claimed"),
    (GOOGLE, "ann@corp.example", {"email_verified": True, "hd": "corp.example"}, "authoritative"),
    (GOOGLE, "ann@corp.example", {"email_verified": True, "hd": "other.example"}, "verified"),
    (GOOGLE, "ann@corp.example", {"email_verified": True, "hd": True}, "verified"),
    (GOOGLE, "ann@yahoo.com", {"email_verified": True}, "verified"),
    (GOOGLE, "ann@gmail.com.attacker.example", {"email_verified": True}, "verified"),
    (GOOGLE, "gmail.com", {"email_verified": True}, "authoritative"),  # no address: it has no account
    (FALSE_GOOGLE, "ann@gmail.com", {"email_verified": True}, "verified"),
    (MICROSOFT, "ann@outlook.com", {"email_verified": True}, "claimed"),
    (MICROSOFT, "ann@corp.example", {}, "claimed"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": False}, "claimed"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": 0}, "claimed"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": "0"}, "claimed"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": ["true"]}, "claimed"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": True}, "verified"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": 1}, "verified"),
    (MICROSOFT, "ann@corp.example", {"xms_edov": "1"}, "verified"),
    (APPLE, "ann@icloud.com", {"email_verified": "true"}, "authoritative"),
    (APPLE, "x@privaterelay.appleid.com", {"email_verified": True}, "authoritative"),
    (APPLE, "ann@example.com", {"email_verified": "true"}, "verified"),
    (APPLE, "ann@example.com", {"email_verified": "false"}, "claimed"),
    (GITLAB, "ann@example.com", {"email_verified": True}, "verified"),
    (GITLAB, "ann@gmail.com", {"email_verified": True}, "verified"),
    (GITLAB, "ann@example.com", {"email_verified": 1}, "claimed"),
    (GITLAB, "ann@example.com", {"email_verified": ["true"]}, "claimed"),
    (GITHUB, "ann@example.com", {"email_verified": True}, "verified"),
    (OWN, "ann@corp.example", {"email_verified": True}, "authoritative"),
    (OWN, "ann@corp.example", {"email_verified": "yes"}, "claimed"),
    (OWN, "ann@sub.corp.example", {"email_verified": True}, "verified"),
    (OWN, "ann@example.com", {"email_verified": True}, "verified"),
]


@pytest.mark.parametrize(
    ("provider", "email", "claims", "trust"), ADDRESSES, ids=[str(each) for each in range(len(ADDRESSES))]
)
def test_a_providers_word_on_an_address_goes_as_far_as_it_can_know(
    provider: ProviderSettings, email: str, claims: dict[str, Any], trust: Trust
) -> None:
    issuer = TENANT if provider is MICROSOFT else provider.issuer
    assert judge_address(provider, {"iss": issuer, **claims}, email) == trust


def test_the_table_of_cases_is_what_is_decided() -> None:
    """The table in the module's docstring, read as it is printed."""
    rows: dict[str, list[str]] = {}
    for line in (linking.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and not cells[0].startswith("-"):
            rows[cells[0]] = cells[1:]
    trusts: tuple[Trust, ...] = ("authoritative", "verified", "claimed")
    assert rows["identity, account at the address"] == [*trusts, "no address"]
    accounts: dict[Account, str] = {
        "none": "no account at the address",
        "vouches": "an account that vouches",
        "reserved": "an account that does not vouch",
    }
    columns: list[tuple[Trust, bool]] = [*((trust, True) for trust in trusts), ("claimed", False)]
    for (account, row), known in product(accounts.items(), (False, True)):
        expected = rows["the identity is a user's" if known else row]
        decided = [decide(trust, known=known, has_address=has, account=account) for trust, has in columns]
        assert [word.replace("_", " ") for word in decided] == expected
    safe: set[Decision] = {"ask login", "sign up", "refuse"}
    # Whatever the table says: what a provider only repeats opens and joins nothing; nothing joins a reserved account.
    for account in accounts:
        assert decide("claimed", known=False, has_address=True, account=account) in safe
    for trust in trusts:
        assert decide(trust, known=False, has_address=True, account="reserved") in safe


def person(issuer: Issuer, number: int, email: str, *, verified: bool = True) -> None:
    """Have the issuer send another person."""
    issuer.subject, issuer.claims = f"person-{number}", {"email": email, "email_verified": verified}


ASK = "already an account"


async def test_nobody_is_joined_to_an_account_that_is_not_theirs(database: str, tmp_path: Path) -> None:
    """Each kind of account at the address, for each kind of word that a provider may give."""
    with Issuer().running() as issuer:
        environ = provider_environment("OWN", issuer, DOMAINS="corp.example")
        async with run_test_service(database, tmp_path, environ) as service:
            kinds = ("ordinary", "admin", "disabled", "moved")
            wrong = []
            for number, (kind, authoritative, verified) in enumerate(
                product(kinds, (True, False), (True, False))
            ):
                email = f"{kind}{number}@{'corp.example' if authoritative else 'example.com'}"
                await service.confirm(email)
                if kind == "admin":
                    await execute(database, "UPDATE users SET role = 'admin' WHERE email = %s", email)
                elif kind == "disabled":
                    await execute(database, "UPDATE users SET disabled_at = now() WHERE email = %s", email)
                elif kind == "moved":
                    await execute(
                        database,
                        """
                        INSERT INTO address_moves (id, user_id, old_email, old_key, new_email, new_key, state, done_at)
                        SELECT gen_random_uuid(), id, 'old@example.com', 'old@example.com', email, email_key, 'done',
                               now() - interval '6 days'
                          FROM users WHERE email = %s
                        """,
                        email,
                    )
                person(issuer, number, email, verified=verified)
                before = await count_rows(database)
                async with visiting(service) as visitor:
                    answer = await visitor.go("own", issuer)
                after = await count_rows(database)
                made = {name: after[name] - before[name] for name in after if after[name] != before[name]}
                if not verified:
                    right = made == {"registrations": 1, "registration_identities": 1}
                    right = right and answer.headers.get("Location") == "/signup/status"
                elif kind == "ordinary" and authoritative:
                    right = made == {"identities": 1, "sessions": 1}
                else:
                    right = made == {} and answer.status_code == 409 and ASK in answer.text
                if not right:
                    wrong.append((kind, authoritative, verified, made, answer.status_code))
            assert wrong == []


async def test_a_strangers_pending_sign_up_gains_nothing(database: str, tmp_path: Path) -> None:
    """The owner of the address comes by a provider: the account has no password, and the stranger's attempt ends."""
    with Issuer(claims={"email": "ann@example.com"}).running() as issuer:
        async with run_test_service(database, tmp_path, provider_environment("OWN", issuer)) as service:
            await service.sign_up("ann@example.com", "the stranger's password")
            mail = await service.wait_mail("ann@example.com")
            async with visiting(service) as visitor:
                assert (await visitor.go("own", issuer)).headers["Location"] == "/account"
            answer = await service.post("/confirm-email", {"token": mail.token})
            assert (answer.status_code, answer.json()["code"]) == (410, "token_expired")
            for password in ("the stranger's password", PASSWORD, ""):
                body = {"email": "ann@example.com", "password": password}
                assert (await service.post("/login", body)).status_code == 401
            counted = await count_rows(database)
            assert (counted["users"], counted["identities"]) == (1, 1)


async def test_a_claimed_address_tells_nobody_who_has_an_account(database: str, tmp_path: Path) -> None:
    """Who may claim addresses gets the same answer for an account, a waiting sign-up and nothing."""
    with Issuer().running() as issuer:
        async with run_test_service(database, tmp_path, provider_environment("OWN", issuer)) as service:
            await service.confirm("known@example.com")
            await service.sign_up("pending@example.com")
            answers = []
            for number, email in enumerate(["known@example.com", "pending@example.com", "new@example.com"]):
                person(issuer, number, email, verified=False)
                async with visiting(service) as visitor:
                    answers.append(shown(await visitor.go("own", issuer)))
            assert answers[0] == answers[1] == answers[2]
            known = await service.wait_mail("known@example.com", number=2)
            assert "/confirm#t=" not in known.text
            assert (await service.wait_mail("new@example.com")).token


def shown(answer: httpx.Response) -> tuple[int, str, list[str]]:
    """Return what a client sees of an answer, without what is of this request alone."""
    cookies = [re.sub(r"=[^;]+", "=…", value, count=1) for value in answer.headers.get_list("Set-Cookie")]
    return answer.status_code, answer.headers.get("Location", ""), cookies


async def test_a_claimed_address_is_confirmed_by_its_mail_in_the_browser_that_came(
    database: str, tmp_path: Path
) -> None:
    with Issuer().running() as issuer:
        person(issuer, 1, "ann@example.com", verified=False)
        async with run_test_service(database, tmp_path, provider_environment("OWN", issuer)) as service:
            async with visiting(service) as visitor:
                assert (await visitor.go("own", issuer)).headers["Location"] == "/signup/status"
                mail = await service.wait_mail("ann@example.com")
                assert (await count_rows(database))["users"] == 0
                answer = await visitor.post("/signup/code", {"code": mail.code})
                assert answer.status_code == 303, answer.text
            counted = await count_rows(database)
            assert (counted["users"], counted["identities"], counted["registration_identities"]) == (1, 1, 0)
            async with visiting(service) as visitor:
                assert (await visitor.go("own", issuer)).headers["Location"] == "/account"


async def test_a_known_identity_is_found_by_issuer_and_subject_alone(database: str, tmp_path: Path) -> None:
    """Its address may become another account's at the provider, or be taken away: the account stays the same."""
    with Issuer().running() as issuer, Issuer().running() as other:
        environ = provider_environment("OWN", issuer) | provider_environment("OTHER", other)
        async with run_test_service(database, tmp_path, environ) as service:
            await service.confirm("bob@example.com")
            owners = []
            for email in ("ann@example.com", "bob@example.com", "", "no address"):
                person(issuer, 1, email)
                async with visiting(service) as visitor:
                    assert (await visitor.go("own", issuer)).headers["Location"] == "/account"
                    owners.append((await visitor.client.get("/account")).text.count("ann@example.com") > 0)
            assert owners == [True] * 4
            # The same subject at another issuer is another person.
            person(other, 1, "ann@example.com")
            async with visiting(service) as visitor:
                answer = await visitor.go("other", other)
                assert (answer.status_code, ASK in answer.text) == (409, True)
            person(issuer, 2, "")
            async with visiting(service) as visitor:
                assert (await visitor.go("own", issuer)).status_code == 422
            assert (await count_rows(database))["users"] == 2


async def run_one(service: Service, issuer: Issuer, name: str = "own") -> httpx.Response:
    async with visiting(service) as visitor:
        return await visitor.go(name, issuer)


async def test_a_service_that_takes_no_sign_ups_opens_no_account_for_a_provider(
    database: str, tmp_path: Path
) -> None:
    with Issuer().running() as issuer:
        environ = provider_environment("OWN", issuer) | {"REGSVC_SIGNUP": "closed"}
        async with run_test_service(database, tmp_path, environ) as service:
            for verified in (True, False):
                person(issuer, 1, "ann@example.com", verified=verified)
                assert (await run_one(service, issuer)).status_code == 403
            counted = await count_rows(database)
            assert (counted["users"], counted["registrations"]) == (0, 0)


async def test_terms_are_accepted_before_an_account_is_opened(database: str, tmp_path: Path) -> None:
    with Issuer().running() as issuer:
        environ = provider_environment("OWN", issuer) | {"REGSVC_TERMS": "2=https://example.org/terms"}
        async with run_test_service(database, tmp_path, environ) as service:
            async with visiting(service) as visitor:
                answer = await visitor.go("own", issuer)
                assert (answer.status_code, (await count_rows(database))["users"]) == (200, 0)
                assert (await visitor.post("/login/with/own/terms", {"terms": ""})).status_code == 422
                assert (await visitor.post("/login/with/own/terms", {"terms": "1"})).status_code == 422
                async with visiting(service) as stranger:
                    assert (await stranger.post("/login/with/own/terms", {"terms": "2"})).status_code == 400
                answer = await visitor.post("/login/with/own/terms", {"terms": "2"})
                assert answer.headers["Location"] == "/account"
            assert (await run_one(service, issuer)).headers["Location"] == "/account"
