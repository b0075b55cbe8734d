"""Several ways out: what one does not accept goes by the next, and nothing is sent twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.config.mail_url import read_mail_urls
from regsvc.mail.outcome import Aborted, Accepted, Bounced, Delayed, Outcome, Refused
from regsvc.mail.queue.verdict import OPENS_AT, Evidence
from regsvc.mail.routes.choice import moves_on
from regsvc.mail.routes.router import PATIENCE as PATIENCE_OF_ROUTES
from regsvc.mail.routes.router import Router, Way
from regsvc.mail.smtp.connection import Deadlines
from regsvc.mail.transport import open_transport
from tests.mail.providers import ProviderServer, hang_up
from tests.smtp_servers import PATIENCE, HangUp, Hold, Script, ScriptedServer, Silence
from tests.suite.ports import take_port

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope


@asynccontextmanager
async def routed(*servers: ScriptedServer | ProviderServer | str) -> AsyncIterator[Router]:
    """Run servers, or take URLs, as the routes `a`, `b` … of one transport."""
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            transports = {}
            for name, server in zip("abc", servers, strict=False):
                if not isinstance(server, str):
                    await stack.enter_async_context(server.running())
                url = server if isinstance(server, str) else server.url
                transports[name] = open_transport(url, deadlines=Deadlines(after_dot=2.0))
            router = Router(transports)
            try:
                yield router
            finally:
                await router.aclose()


def _route_of(outcome: Outcome) -> str:
    assert not isinstance(outcome, Aborted)
    return outcome.route


async def test_the_first_route_is_preferred(envelope: Envelope) -> None:
    first, second = ScriptedServer(), ScriptedServer()
    async with routed(first, second) as router:
        assert _route_of(await router.send(envelope)) == "a"
    assert (len(first.mails), len(second.mails)) == (1, 0)


NOT_ACCEPTED: dict[str, Script] = {
    "greeting": {"greeting": "554 go away"},
    "busy": {"greeting": "421 busy"},
    "sender": {"MAIL": "550 5.7.60 not allowed to send as this sender"},
    "limit": {"RCPT": "550 5.4.5 Daily user sending limit exceeded"},
    "content": {"DOT": "554 5.7.1 message rejected by policy"},
    "disk": {"DOT": "452 4.3.1 insufficient system storage"},
    "hangs up before the dot": {"DATA": HangUp()},
}


@pytest.mark.parametrize("case", sorted(NOT_ACCEPTED))
async def test_what_is_not_accepted_goes_by_the_next_route_at_once(case: str, envelope: Envelope) -> None:
    first, second = ScriptedServer(NOT_ACCEPTED[case]), ScriptedServer()
    async with routed(first, second) as router:
        outcome = await router.send(envelope)
        assert isinstance(outcome, Accepted)
        assert outcome.route == "b"
    assert (len(first.mails), len(second.mails)) == (0, 1)


async def test_a_refused_connection_is_met_once(envelope: Envelope) -> None:
    """The route is passed over then, before its breaker opens, until a test shows that it works."""
    second = ScriptedServer()
    async with routed(f"smtp://127.0.0.1:{take_port()}", second) as router:
        for _ in range(3):
            assert _route_of(await router.send(envelope)) == "b"
        assert router.routes[0].breaker.failures == 1
        assert [route.name for route in router.choose()] == ["b", "a"]


async def test_a_route_that_does_not_answer_lets_the_next_be_dialled(envelope: Envelope) -> None:
    first, second = ScriptedServer({"greeting": Silence()}), ScriptedServer()
    async with routed(first, second) as router:
        with trio.fail_after(8):  # of ten for the first route to connect
            assert _route_of(await router.send(envelope)) == "b"
            assert _route_of(await router.send(envelope)) == "b"
    assert first.connections == 1


async def test_a_kept_session_that_falls_silent_lets_the_next_route_be_dialled(envelope: Envelope) -> None:
    """It was open, and may lead into a black hole by now; the server has thirty seconds to answer a command."""
    first, second = ScriptedServer({"MAIL": ["250 ok", Silence()]}), ScriptedServer()
    async with routed(first, second) as router:
        assert _route_of(await router.send(envelope)) == "a"
        with trio.fail_after(15):
            assert _route_of(await router.send(envelope)) == "b"
            assert _route_of(await router.send(envelope)) == "b"
    assert first.connections == 1


async def test_a_server_that_answers_a_kept_session_has_its_usual_time(envelope: Envelope) -> None:
    """Only its first reply is waited for with little patience."""
    looked_up = trio.Event()
    first, second = ScriptedServer({"RCPT": ["250 ok", Hold(looked_up)]}), ScriptedServer()
    async with routed(first, second) as router, trio.open_nursery() as nursery:
        assert _route_of(await router.send(envelope)) == "a"

        async def look_up() -> None:
            await first.wait(lambda: first.steps.count("RCPT") == 2)
            await trio.sleep(PATIENCE_OF_ROUTES + 0.5)
            looked_up.set()

        nursery.start_soon(look_up)
        assert _route_of(await router.send(envelope)) == "a"
    assert second.connections == 0


OF_THE_RECIPIENT: dict[str, tuple[Script, type[Outcome]]] = {
    "unknown": ({"RCPT": "550 5.1.1 no such user"}, Bounced),
    "greylisted": ({"RCPT": "450 4.2.0 greylisted"}, Delayed),
    "full": ({"RCPT": "452 4.2.2 mailbox full"}, Delayed),
}


@pytest.mark.parametrize("case", sorted(OF_THE_RECIPIENT))
async def test_what_is_said_of_the_recipient_is_true_by_every_route(case: str, envelope: Envelope) -> None:
    script, kind = OF_THE_RECIPIENT[case]
    first, second = ScriptedServer(script), ScriptedServer()
    async with routed(first, second) as router:
        assert isinstance(await router.send(envelope), kind)
    assert second.connections == 0


@pytest.mark.parametrize("kept", [True, False])
async def test_a_mail_that_may_have_been_accepted_stays_with_its_route(
    kept: bool,  # noqa: FBT001 - a case
    envelope: Envelope,
) -> None:
    first, second = ScriptedServer({"DOT": [HangUp(kept=kept)]}), ScriptedServer()
    async with routed(first, second) as router:
        outcome = await router.send(envelope)
        assert isinstance(outcome, Delayed)
        assert (outcome.after_dot, outcome.route) == (True, "a")
        assert _route_of(await router.send(envelope, way=Way(bound="a"))) == "a"
    assert second.connections == 0


async def test_a_bound_mail_waits_while_its_route_is_away(envelope: Envelope) -> None:
    """Another route is open, so the failure says nothing of mail as a whole."""
    second = ScriptedServer()
    async with routed(f"smtp://127.0.0.1:{take_port()}", second) as router:
        outcome = await router.send(envelope, way=Way(bound="a"))
        assert isinstance(outcome, Delayed)
        assert outcome.elsewhere
        assert second.connections == 0
        assert _route_of(await router.send(envelope, way=Way(avoid="a"))) == "b"


async def test_a_provider_whose_answer_is_lost_keeps_the_mail(envelope: Envelope) -> None:
    first, second = ProviderServer("resend", [hang_up]), ScriptedServer()
    async with routed(first, second) as router:
        outcome = await router.send(envelope)
        assert isinstance(outcome, Delayed)
        assert outcome.after_dot
        assert isinstance(await router.send(envelope, way=Way(bound="a")), Accepted)
    assert second.connections == 0


async def test_when_no_route_takes_it_the_failure_is_of_all(envelope: Envelope) -> None:
    async with routed(*(f"smtp://127.0.0.1:{take_port()}" for _ in "ab")) as router:
        outcome = await router.send(envelope)
        assert isinstance(outcome, Delayed)
        assert not outcome.elsewhere
        assert isinstance(await router.check(), Delayed)


async def test_a_slow_route_is_better_than_none(envelope: Envelope) -> None:
    """It was given up after two seconds for a route that refuses."""
    awake = trio.Event()
    first, second = ScriptedServer({"greeting": Hold(awake)}), ScriptedServer({"greeting": "554 no"})

    async def wake() -> None:
        await second.wait(lambda: second.connections > 0)
        awake.set()

    async with routed(first, second) as router, trio.open_nursery() as nursery:
        nursery.start_soon(wake)
        outcome = await router.send(envelope)
        assert isinstance(outcome, Accepted)
        assert outcome.route == "a"


async def test_refusals_in_the_same_words_are_about_us(envelope: Envelope) -> None:
    """Different recipients are refused alike: from then on the next route takes such mails."""
    from regsvc.mail.envelope import Envelope as Letter  # noqa: PLC0415 - the name is a type above

    first, second = ScriptedServer({"RCPT": "550 something about us"}), ScriptedServer()
    outcomes = []
    async with routed(first, second) as router:
        for number in range(5):
            mail = Letter(envelope.sender, f"jane@{number}.example", envelope.data)
            outcomes.append(await router.send(mail))
        assert router.routes[0].breaker.open
    assert [type(outcome) for outcome in outcomes[:2]] == [Bounced, Bounced]
    assert all(isinstance(outcome, Accepted) for outcome in outcomes[2:])
    assert all(getattr(outcome, "elsewhere", False) for outcome in outcomes[:2])


async def test_an_open_breaker_is_passed_over_until_the_route_is_tested(envelope: Envelope) -> None:
    first, second = ScriptedServer(), ScriptedServer()
    async with routed(first, second) as router:
        route = router.routes[0]
        router.hear(route, [Evidence(Delayed("timeout", "connect"))] * OPENS_AT)
        assert route.breaker.open
        assert _route_of(await router.send(envelope)) == "b"
        router.hear(route, [Evidence(await route.transport.check())])
        assert _route_of(await router.send(envelope)) == "a"


async def test_a_withdrawn_mail_goes_by_no_route(envelope: Envelope) -> None:
    first, second = ScriptedServer(), ScriptedServer()
    async with routed(first, second) as router:
        assert isinstance(await router.send(envelope, lambda: False), Aborted)
    assert (first.mails, second.mails) == ([], [])


def test_the_names_of_routes() -> None:
    def names(text: str) -> Sequence[str]:
        return [route.name for route in read_mail_urls(text)]

    assert names("resend://K@\n smtps://u:p@mail.example.org") == ["resend", "mail.example.org"]
    assert names("postmark://A@ postmark://B@") == ["postmark", "postmark#2"]
    assert names("maildir:/a folder") == ["maildir"]
    assert names("maildir:/a smtp://b") == ["maildir", "b"]


@pytest.mark.parametrize(
    ("outcome", "moves"),
    [
        pytest.param(Delayed("timeout", "connect"), True, id="connect"),
        pytest.param(Delayed("timeout", "dot", after_dot=True), False, id="dot"),
        pytest.param(Delayed("service_unavailable", "rcpt", "421 4.3.2 closing"), True, id="closing"),
        pytest.param(Delayed("temporary_failure", "rcpt", "451 4.7.1 greylisted"), False, id="greylisted"),
        pytest.param(Refused("policy_refused", "rcpt", "550 5.7.1 no"), True, id="policy"),
        pytest.param(Bounced("recipient_refused", "rcpt", "550 5.1.1 no"), False, id="recipient"),
    ],
)
def test_which_outcomes_move_on(outcome: Outcome, moves: bool) -> None:  # noqa: FBT001 - a case
    assert moves_on(outcome) is moves
