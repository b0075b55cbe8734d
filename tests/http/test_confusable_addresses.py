"""Two mailboxes whose addresses look alike, or fold alike, have nothing of each other: not an attempt, not a mail."""

from __future__ import annotations

import pytest

from regsvc.mail.mailbox import read_mailbox
from tests.services import Service, read_all_mails

OWN, OTHERS = "the password of the one", "the password of the other"
PAIRS = [
    ("großbank.example", "grossbank.example"),
    ("βόλος.example", "βόλοσ.example"),
]
PAIR = pytest.mark.parametrize(
    ("one", "other"),
    [
        *((f"ann@{one}", f"ann@{other}") for one, other in PAIRS),
        ("straße@example.com", "strasse@example.com"),
    ],
    ids=["sharp-s", "final-sigma", "local-part"],
)


def count(service: Service, address: str) -> int:
    return len(service.mails(read_mailbox(address).wire))


async def wait(service: Service, address: str, number: int = 1) -> str:
    mail = await service.wait_mail(read_mailbox(address).wire, number=number)
    return mail.token


async def log_in(service: Service, address: str, password: str) -> int:
    return (await service.post("/login", {"email": address, "password": password})).status_code


@PAIR
async def test_a_link_confirms_no_attempt_of_the_other_mailbox(
    service: Service, one: str, other: str
) -> None:
    """Whoever signs both up and reads the mail of one is not logged in as the other."""
    await service.sign_up(other, OTHERS)
    await service.sign_up(one, OWN)
    token = await wait(service, one)
    await service.post("/confirm-email", {"token": token, "password": OTHERS})
    assert await log_in(service, other, OTHERS) == 401
    assert await log_in(service, one, OTHERS) == 401
    assert (await service.post("/confirm-email", {"token": token})).status_code == 200
    assert await log_in(service, one, OWN) == 200


@PAIR
async def test_an_account_hears_nothing_of_the_other_mailbox(service: Service, one: str, other: str) -> None:
    """Sign-up, resend, reset and "not me" at one mailbox reach that one alone."""
    await service.sign_up(one, OWN)
    assert (await service.post("/confirm-email", {"token": await wait(service, one)})).status_code == 200
    await service.sign_up(other, OTHERS)
    token = await wait(service, other)  # a confirmation of its own, no "you already have an account"
    assert (await service.post("/confirm-email/resend", {"email": one})).status_code == 202
    assert (await service.post("/password/forgot", {"email": other})).status_code == 202
    assert (await service.post("/confirm-email/repudiate", {"token": token})).status_code == 200
    await service.sign_up(other, OTHERS)
    await wait(service, other, 2)
    assert count(service, one) == 1
    assert count(service, other) == 2
    headers = await service.log_in(one, OWN)
    await service.prove(headers, OWN)
    export = (await service.client.get("/api/v1/me/export", headers=headers)).json()
    assert len(export["registrations"]) == 1
    assert [mail["kind"] for mail in export["mails"]] == ["resend", "signup"]


async def test_a_notice_goes_to_the_spelling_of_the_account(service: Service) -> None:
    """ASCII case is the one thing in which an attempt and its account may differ."""
    await service.confirm("Ann@example.com", OWN)
    await service.sign_up("aNN@EXAMPLE.com", OTHERS)
    await service.wait_mail("Ann@example.com", number=2)
    assert (await service.post("/password/forgot", {"email": " mailto:ANN@example.com. "})).status_code == 202
    await service.wait_mail("Ann@example.com", number=3)
    assert {mail.message["To"] for mail in read_all_mails(service.mailbox)} == {"Ann@example.com"}
