"""Nobody's sign-up decides another's password or passkey: a stranger signs up for their address, in every order.

The reader of the mail presses any link, gives any code, asks again, says "not me"; the account that results has the
password or the passkey that they chose, and no other. The rules underneath are tested in
tests/accounts/test_confirmation.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from regsvc.security.tokens import read_link_token
from tests.http.passkey_calls import ask, log_in, sign_up
from tests.passkeys import Authenticator
from tests.services import Mail, Service

OWN, STRANGERS = "the password of the owner", "the password of the stranger"
# S: the stranger signs up; M: does so elsewhere, and moves the sign-up here; P: signs up with a passkey; O: the owner
# signs up; K: does so with a passkey.
ORDERS = ("SO", "OS", "SOS", "MO", "PO", "OP", "SOP")
KEY_ORDERS = ("K", "SK", "KS", "PK", "KP", "SKP")


@dataclass(frozen=True)
class Stage:
    """An address that several have signed up for.

    Args:
        service: that they did it at.
        address: the owner's.
        own: the owner's sign-up.
        mails: by registration, all of them in the owner's hands.
        own_passkey: with which the owner signed up, if so.
        passkeys: of the stranger.
    """

    service: Service
    address: str
    own: httpx.Response
    mails: dict[str, Mail]
    own_passkey: Authenticator
    passkeys: list[Authenticator]

    @property
    def own_id(self) -> str:
        """The owner's registration."""
        return self.own.headers["Location"].rpartition("/")[2]

    @property
    def handle(self) -> dict[str, str]:
        """What only the owner's browser has."""
        return {"Regsvc-Handle": self.own.headers["Regsvc-Handle"]}

    @property
    def strangers(self) -> list[str]:
        """The stranger's registrations."""
        return [registration for registration in self.mails if registration != self.own_id]

    async def press(
        self, registration: str, password: str | None = None, handle: dict[str, str] | None = None
    ) -> int:
        """Press the link in a mail."""
        body = {"token": self.mails[registration].token}
        if password is not None:
            body["password"] = password
        return (await self.service.post("/confirm-email", body, handle)).status_code

    async def assert_own(self, registration: str) -> int:
        """Press the link in a mail and have the owner's passkey answer."""
        asserted = self.own_passkey.get(await ask(self.service))
        body = {"token": self.mails[registration].token, "assertion": asserted}
        return (await self.service.post("/confirm-email", body)).status_code

    async def check_strangers(self) -> None:
        """Nothing of a stranger opens the account."""
        answer = await self.service.post("/login", {"email": self.address, "password": STRANGERS})
        assert answer.status_code == 401
        for passkey in self.passkeys:
            assert (await log_in(self.service, passkey)).status_code == 401

    async def enter(self, registration: str) -> int:
        """Enter the code of a mail where one waits for one's own."""
        body = {"registration": self.own_id, "code": self.mails[registration].code}
        return (await self.service.post("/confirm-email/code", body, self.handle)).status_code

    async def ask_again(self, handle: dict[str, str] | None) -> str:
        """Ask for a mail once more and return whose came."""
        body = {"email": self.address} | ({"registration": self.own_id} if handle else {})
        assert (await self.service.post("/confirm-email/resend", body, handle)).status_code == 202
        mail = await self.service.wait_mail(self.address, number=len(self.mails) + 1)
        registration = registration_of(mail)
        self.mails[registration] = mail
        return registration


def registration_of(mail: Mail) -> str:
    token = read_link_token(mail.token)
    assert token is not None
    return str(token.registration_id)


async def set_stage(service: Service, order: str) -> Stage:
    """Have everybody sign up, one after the other, and their mails come."""
    address = f"{uuid4()}@example.com"
    own, own_passkey, passkeys = None, Authenticator(service.url), list[Authenticator]()
    for number, who in enumerate(order):
        match who:
            case "O":
                own = await service.sign_up(address, OWN)
            case "K":
                own = await sign_up(service, address, own_passkey)
            case "P":
                passkeys.append(Authenticator(service.url))
                await sign_up(service, address, passkeys[-1])
            case "S":
                # Under another name each time: else it were a button that was pressed twice.
                await service.sign_up(address, STRANGERS, name=f"Stranger {number}")
            case _:
                elsewhere = await service.sign_up(f"stranger-{address}", STRANGERS)
                handle = {"Regsvc-Handle": elsewhere.headers["Regsvc-Handle"]}
                url = elsewhere.headers["Location"]
                moved = await service.client.patch(url, json={"email": address}, headers=handle)
                assert moved.status_code == 202
    assert own is not None
    await service.wait_mail(address, number=len(order))
    mails = {registration_of(mail): mail for mail in service.mails(address)}
    assert len(mails) == len(order)
    return Stage(service, address, own, mails, own_passkey, passkeys)


Act = Callable[[Stage], Awaitable[None]]


async def give_the_password(stage: Stage) -> None:
    """No link alone is enough, whoever's it is, nor that of the newest mail; one with the password is."""
    await stage.ask_again(None)
    for registration in stage.mails:
        assert await stage.press(registration) == 409
    assert await stage.press(stage.own_id, "a password of nobody") == 409
    assert await stage.press(stage.strangers[-1], OWN) == 200


async def press_where_one_signed_up(stage: Stage) -> None:
    """One's own handle opens one's own attempt alone."""
    for registration in stage.strangers:
        assert await stage.press(registration, handle=stage.handle) == 409
    assert await stage.press(stage.own_id, handle=stage.handle) == 200


async def enter_every_code(stage: Stage) -> None:
    """The code of a stranger's mail is worth nothing where one waits for one's own, which comes again on request."""
    for registration in stage.strangers:
        assert await stage.enter(registration) == 400
    assert await stage.ask_again(stage.handle) == stage.own_id
    assert await stage.enter(stage.own_id) == 200


async def say_not_me_to_every_stranger(stage: Stage) -> None:
    """Then one's own is the only one, and its link alone is enough."""
    for registration in stage.strangers:
        token = stage.mails[registration].token
        assert (await stage.service.post("/confirm-email/repudiate", {"token": token})).status_code == 200
        assert await stage.press(registration, STRANGERS) == 410
    assert await stage.press(stage.own_id) == 200


ACTS: tuple[Act, ...] = (
    give_the_password,
    press_where_one_signed_up,
    enter_every_code,
    say_not_me_to_every_stranger,
)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_the_account_has_the_password_of_whoever_read_the_mail(
    shared_service: Service, order: str, act: Act
) -> None:
    stage = await set_stage(shared_service, order)
    await act(stage)
    await shared_service.log_in(stage.address, OWN)
    await stage.check_strangers()


async def answer_with_the_passkey(stage: Stage) -> None:
    """No link alone is enough, and no password; any link is with one's own passkey."""
    for registration in stage.mails:
        assert await stage.press(registration) == 409
        assert await stage.press(registration, "a password of nobody") == 409
    assert await stage.assert_own([*stage.mails][-1]) == 200


async def press_where_one_made_the_passkey(stage: Stage) -> None:
    """One's own handle opens one's own attempt alone."""
    await press_where_one_signed_up(stage)


async def say_not_me_and_press(stage: Stage) -> None:
    """Even if one's own is the only one left, its bare link is not enough."""
    for registration in stage.strangers:
        token = stage.mails[registration].token
        assert (await stage.service.post("/confirm-email/repudiate", {"token": token})).status_code == 200
    assert await stage.press(stage.own_id) == 409
    assert await stage.enter(stage.own_id) == 200


KEY_ACTS: tuple[Act, ...] = (
    answer_with_the_passkey,
    press_where_one_made_the_passkey,
    enter_every_code,
    say_not_me_and_press,
)


@pytest.mark.parametrize("order", KEY_ORDERS)
@pytest.mark.parametrize("act", KEY_ACTS, ids=lambda act: act.__name__)
async def test_the_account_has_the_passkey_of_whoever_read_the_mail(
    shared_service: Service, order: str, act: Act
) -> None:
    stage = await set_stage(shared_service, order)
    await act(stage)
    assert (await log_in(shared_service, stage.own_passkey)).status_code == 200
    await stage.check_strangers()


async def test_a_strangers_passkey_alone_becomes_no_account_by_the_owners_click(
    shared_service: Service,
) -> None:
    address, stranger = f"{uuid4()}@example.com", Authenticator(shared_service.url)
    await sign_up(shared_service, address, stranger)
    token = (await shared_service.wait_mail(address)).token
    for _ in range(2):
        assert (await shared_service.post("/confirm-email", {"token": token})).status_code == 409
    assert (await log_in(shared_service, stranger)).json()["code"] == "passkey_unconfirmed"
    await shared_service.sign_up(address, OWN)
    answer = await shared_service.post("/confirm-email", {"token": token, "password": OWN})
    assert answer.status_code == 200
    await shared_service.log_in(address, OWN)
    assert (await log_in(shared_service, stranger)).status_code == 401


async def test_a_sign_up_after_the_confirmation_changes_nothing(shared_service: Service) -> None:
    stage = await set_stage(shared_service, "SO")
    await press_where_one_signed_up(stage)
    await shared_service.sign_up(stage.address, STRANGERS, name="Stranger again")
    notice = await shared_service.wait_mail(stage.address, number=3)
    assert "#t=" not in notice.text
    for registration in stage.strangers:  # no link of before does either, whatever password is given with it
        assert await stage.press(registration, STRANGERS) == 410
    await shared_service.log_in(stage.address, OWN)
