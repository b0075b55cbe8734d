"""Whatever people do with their addresses, in whatever order: the service does what a model of it does.

Hypothesis makes up the orders, the same every time, and finds a short one where the two disagree. With
`REGSVC_TEST_LIVES` it makes so many, and new ones every time.
"""

from __future__ import annotations

import os
import time
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.acceptance.life import CODE_TRIES, Attempt, Mailbox, Person, Session, confirms, resets_beside
from tests.programs import SharedProgram
from tests.services import PLAIN

LIVES = os.environ.get("REGSVC_TEST_LIVES")
EXAMPLES, STEPS = int(LIVES or "20"), 20
PASSWORDS = ("the first password", "the second password")
NOBODYS = "a password of nobody"
GRACE = 10.0  # seconds in which the parent of an unused refresh token is answered with it
TRIES = 100  # of a call that is answered with 503

MOSTLY = st.sampled_from([True, True, True, False])


class Life(RuleBasedStateMachine):
    """People who sign up, for their own address or somebody else's, and what they do then."""

    client: httpx.Client
    mailbox: Mailbox

    people = Bundle("people")
    attempts = Bundle("attempts")
    sessions = Bundle("sessions")

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Make a call; a machine that is busy is asked again, nothing having been accepted."""
        for _ in range(TRIES):
            answer = self.client.request(method, path, json=body, headers=headers)
            if answer.status_code != 503:
                return answer
            time.sleep(0.2)
        raise AssertionError(answer.text)

    @initialize(target=people)
    def meet(self) -> Person:
        """Begin with somebody new."""
        return Person(f"{uuid4()}@example.com")

    @initialize(target=sessions)
    def begin(self) -> MultipleResults[Session]:
        """Begin with somebody who is logged in."""
        person = self.meet()
        self.press(self.register(person, PASSWORDS[0]), with_handle=False)
        return self.log_in(person, right=True)

    @rule(target=people, session=sessions)
    def know(self, session: Session) -> Person:
        """Know whoever that is by their address."""
        return session.person

    @rule(target=attempts, person=people, password=st.sampled_from(PASSWORDS))
    def register(self, person: Person, password: str) -> Attempt:
        """Sign up: always the same answer, and a link for whoever has no account."""
        name = f"Ann {len(person.attempts)}"  # else it were a button that was pressed twice
        body = {"email": person.address, "password": password, "name": name}
        answer = self.ask("POST", "/register", body)
        assert (answer.status_code, answer.json()) == (201, {"message": "User registered successfully!"})
        number = answer.headers["Location"].rpartition("/")[2]
        mails = []
        if person.password is None:
            mails.append(self.mailbox.wait(person.address, confirms(number)))
        else:
            self.mailbox.wait_nothing()
        handle = {"Regsvc-Handle": answer.headers["Regsvc-Handle"]}
        attempt = Attempt(person, number, handle, password, mails)
        person.attempts.append(attempt)
        return attempt

    @rule(attempt=attempts, with_handle=st.booleans())
    def press(self, attempt: Attempt, *, with_handle: bool) -> None:
        """Press a link: it is enough while no other sign-up waits, or where one holds its handle."""
        if attempt.mail is None or attempt.state == "erased":
            return
        if attempt.state == "confirmed":
            expected = 200
        elif attempt.state == "live" and not with_handle and len(attempt.person.live) > 1:
            expected = 409
        else:
            expected = attempt.person.confirm(attempt)
        headers = attempt.handle if with_handle else None
        assert (
            self.ask("POST", "/confirm-email", {"token": attempt.mail.token}, headers).status_code == expected
        )

    @rule(attempt=attempts, password=st.sampled_from([*PASSWORDS, NOBODYS]))
    def press_and_give_a_password(self, attempt: Attempt, password: str) -> None:
        """Press a link and give the password of any sign-up that waits: that one becomes the account."""
        if attempt.mail is None or attempt.state == "erased":
            return
        chosen = next((it for it in [attempt, *attempt.person.live] if it.password == password), None)
        if attempt.state == "confirmed":
            expected = 200
        elif attempt.state == "voided":
            expected = 410
        else:
            expected = 409 if chosen is None else attempt.person.confirm(chosen)
        body = {"token": attempt.mail.token, "password": password}
        assert self.ask("POST", "/confirm-email", body).status_code == expected

    @rule(attempt=attempts, right=MOSTLY, times=st.integers(1, CODE_TRIES))
    def enter_codes(self, attempt: Attempt, times: int, *, right: bool) -> None:
        """Enter wrong codes, and then the right one or none: five tries are all."""
        if attempt.state == "erased":
            return
        for n in range(times):
            code = attempt.mail.code if right and attempt.mail and n == times - 1 else attempt.wrong_code
            expected = attempt.enter(right=code != attempt.wrong_code)
            body = {"registration": attempt.id, "code": code}
            assert self.ask("POST", "/confirm-email/code", body, attempt.handle).status_code == expected

    @rule(person=people)
    def ask_again(self, person: Person) -> None:
        """Ask for the mail again: the newest sign-up that waits has another code, and its link stays as good."""
        assert self.ask("POST", "/confirm-email/resend", {"email": person.address}).status_code == 202
        self.mailbox.wait_nothing()
        if person.live:
            newest = person.live[-1]
            newest.tries.append(0)
            if person.password is None:
                newest.mails.append(self.mailbox.wait(person.address, confirms(newest.id, newest.mails)))

    @rule(attempt=attempts)
    def say_not_me(self, attempt: Attempt) -> None:
        """Void a sign-up, as often as one likes, but for a confirmed one."""
        if attempt.mail is None or attempt.state == "erased":
            return
        answer = self.ask("POST", "/confirm-email/repudiate", {"token": attempt.mail.token})
        assert answer.status_code == (409 if attempt.state == "confirmed" else 200)
        if attempt.state == "live":
            attempt.state = "voided"

    @rule(attempt=attempts)
    def look(self, attempt: Attempt) -> None:
        """Look at a sign-up, with its handle and without: nothing shows but its maker's and its reader's own acts."""
        path = f"/registrations/{attempt.id}"
        assert self.ask("GET", path).status_code == 404
        answer = self.ask("GET", path, headers=attempt.handle)
        final = {"confirmed": "confirmed", "voided": "repudiated"}
        if attempt.state in final:
            assert answer.json()["state"] == final[attempt.state]
        elif attempt.state == "live":
            assert answer.json()["state"] in {"queued", "sending", "sent"}

    @rule(target=sessions, person=people, right=MOSTLY)
    def log_in(self, person: Person, *, right: bool) -> MultipleResults[Session]:
        """Log in: with the account's password, and with no other, whoever signed up with it."""
        others = {attempt.password for attempt in person.attempts} - {person.password}
        password = person.password if right else min(others, default=NOBODYS)
        body = {"email": person.address, "password": password or min(others, default=NOBODYS)}
        answer = self.ask("POST", "/login", body)
        if person.password is None or not right:
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
            return multiple()
        assert answer.status_code == 200
        tokens = answer.json()
        session = Session(person, [tokens["access_token"]], [tokens["refresh_token"]])
        person.sessions.append(session)
        return multiple(session)

    @rule(session=sessions)
    def refresh(self, session: Session) -> None:
        """Take the next pair."""
        answer = self.ask("POST", "/token/refresh", {"refresh_token": session.refresh[-1]})
        if not session.alive:
            assert (answer.status_code, answer.json()["code"]) == (401, "refresh_token_invalid")
            return
        assert answer.status_code == 200
        session.refreshed_at = time.monotonic()
        session.access.append(answer.json()["access_token"])
        session.refresh.append(answer.json()["refresh_token"])

    @rule(session=sessions, age=st.integers(2, 3))
    def refresh_with_a_spent_token(self, session: Session, age: int) -> None:
        """Use a token again: the parent of an unused one brings that one, any other ends the session."""
        while session.alive and len(session.refresh) < age:
            self.refresh(session)
        if not session.alive:
            return
        late = time.monotonic() - session.refreshed_at > GRACE / 2  # too near to say on a busy machine
        answer = self.ask("POST", "/token/refresh", {"refresh_token": session.refresh[-age]})
        if age == 2 and (answer.status_code == 200 or not late):
            assert answer.json()["refresh_token"] == session.refresh[-1]
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "refresh_token_reused")
            session.alive = False

    @rule(session=sessions)
    def look_at_oneself(self, session: Session) -> None:
        """Read the profile, with any access token of a session that is alive."""
        for access in session.access:
            answer = self.ask("GET", "/me", headers={"Authorization": f"Bearer {access}"})
            assert answer.status_code == (200 if session.alive else 401)
            assert not session.alive or answer.json()["email"] == session.person.address

    @rule(session=sessions, everywhere=st.booleans())
    def log_out(self, session: Session, *, everywhere: bool) -> None:
        """Log out, here or everywhere."""
        path = "/logout/all" if everywhere else "/logout"
        assert self.ask("POST", path, headers=session.bearer).status_code == (204 if session.alive else 401)
        if session.alive and everywhere:
            session.person.log_out()
        session.alive = False

    @rule(session=sessions, new=st.sampled_from(PASSWORDS), right=MOSTLY)
    def change_password(self, session: Session, new: str, *, right: bool) -> None:
        """Choose another password: every other session ends."""
        current = session.person.password if right else NOBODYS
        body = {"current_password": current or NOBODYS, "new_password": new}
        answer = self.ask("PUT", "/me/password", body, session.bearer)
        assert answer.status_code == (401 if not session.alive else 204 if right else 403), answer.text
        if answer.status_code == 204:
            session.person.set_password(new)
            session.alive = True

    @rule(person=people)
    def forget_the_password(self, person: Person) -> None:
        """Ask for a link to choose a new one: it comes to whoever has an account, and works once."""
        assert self.ask("POST", "/password/forgot", {"email": person.address}).status_code == 202
        if person.password is None:
            self.mailbox.wait_nothing()
        else:
            mail = self.mailbox.wait(person.address, resets_beside(person.resets + person.spent))
            person.resets.append(mail.token_for("reset"))

    @rule(person=people, new=st.sampled_from(PASSWORDS))
    def reset_the_password(self, person: Person, new: str) -> None:
        """Choose a new password with every link that ever came: with a good one, and every session ends."""
        for token in person.spent:
            answer = self.ask("POST", "/password/reset", {"token": token, "password": new})
            assert answer.status_code in {400, 410}
        if person.resets:
            body = {"token": person.resets[-1], "password": new}
            assert self.ask("POST", "/password/reset", body).status_code == 204
            person.set_password(new)

    @rule(session=sessions, right=MOSTLY)
    def delete(self, session: Session, *, right: bool) -> None:
        """Delete the account: nothing of it is left, and the address is free."""
        password = session.person.password if right else NOBODYS
        answer = self.ask("DELETE", "/me", {"password": password or NOBODYS}, session.bearer)
        assert answer.status_code == (401 if not session.alive else 204 if right else 403), answer.text
        if answer.status_code == 204:
            session.person.set_password(None)
            session.person.forget_attempts()


@pytest.mark.timeout(300 + 10 * EXAMPLES)
def test_whatever_people_do_the_service_does_what_the_model_does(shared_program: SharedProgram) -> None:
    mailbox = Mailbox(shared_program.folder / "mail", shared_program.environ["REGSVC_DATABASE_URL"])
    with httpx.Client(base_url=f"{shared_program.url}/api/v1", timeout=60, verify=PLAIN) as client:
        run_state_machine_as_test(
            type("LifeHere", (Life,), {"client": client, "mailbox": mailbox}),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=LIVES is None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
