"""The children of each role, and how they are built from the shared parts.

| child      | all | api | worker | without a broker | what it does                                    |
|------------|-----|-----|--------|------------------|-------------------------------------------------|
| http       |  x  |  x  | health | x                | serves the API and the pages                    |
| listener   |  x  |  x  |        | x                | notifies waiting sockets of changes             |
| review     |  x  |  x  |        | x                | finds changes that the listener missed          |
| watcher    |  x  |  x  |        | x                | has mails that clients wait for sent first      |
| relay      |  x  |  x  |   x    |                  | publishes ids of due mails to the broker        |
| courier    |  x  |     |   x    | x                | sends mails and records the outcome             |
| subscriber |  x  |     |   x    |                  | claims mails whose ids arrive from the broker   |
| mailer     |  x  |     |   x    | x                | claims due mails that the broker did not bring  |
| foreign    |  x  |     |   x    | x                | accepts mails requested by the legacy system    |
| unsent     |  x  |     |   x    | x                | shows attempts without a mail what is due        |
| mailbox    |  x  |     |   x    | x                | reads bounces from a mailbox over IMAP           |
| events     |  x  |  x  |   x    |                  | publishes events to the broker's exchange       |
| webhooks   |  x  |     |   x    | x                | sends events to webhooks                        |
| janitor    |  x  |  x  |   x    | x                | deletes expired rows                            |
| leader     |  x  |  x  |   x    | x                | holds the leases of what one process does for all |
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from regsvc.consumer.janitor import run_janitor
from regsvc.consumer.leader import run_leader
from regsvc.consumer.listener import run_listener
from regsvc.consumer.mailer import AT_ONCE, run_mailer
from regsvc.consumer.review import run_review
from regsvc.consumer.sending.courier import Courier
from regsvc.consumer.sending.exchangers import Exchangers
from regsvc.consumer.sending.letters import LetterWriter
from regsvc.consumer.unsent_facts import run_unsent_facts
from regsvc.consumer.watching import run_watcher
from regsvc.dns.resolver import Resolver
from regsvc.flows.feedback import get_senders
from regsvc.http.health.application import HealthApplication
from regsvc.http.health.standing import Process
from regsvc.http.request_log import note_request
from regsvc.http.server.peers import LOOPBACK
from regsvc.http.server.server import Limits, Server
from regsvc.mail.message.render import make_renderer
from regsvc.mail.queue.publishing import BROKER_MISSED
from regsvc.mail.routes.opening import open_ways_out
from regsvc.parts import Parts
from regsvc.supervisor import Backoff, Child

# A child that waits for a dependency must be back within 5 s of its return, however long that was away.
DEPENDENT = Backoff(cap=2.0)
CRASHING = Backoff(cap=30.0)
HTTP_ATTEMPTS = 5


def make_children(parts: Parts) -> list[Child]:
    """Return the children of the configured role."""
    settings = parts.settings
    serves, works = settings.role in {"all", "api"}, settings.role in {"all", "worker"}
    return [
        *(_http(parts) if serves else _health(parts)),
        *(_listener(parts) if serves else ()),
        *(_relay(parts) if settings.amqp_url else ()),
        *(_event_exchange(parts) if settings.amqp_url and settings.events_exchange else ()),
        *(_sending(parts) if works else ()),
        *(_webhooks(parts) if works else ()),
        *(_unsent_facts(parts) if works else ()),
        *(_bounce_mailbox(parts) if works else ()),
        *(_foreign(parts) if works and settings.accept_foreign_mail else ()),
        *_chores(parts),
    ]


def _chores(parts: Parts) -> Iterator[Child]:
    pool, stopping, leadership = parts.work_pool, parts.stopping, parts.leadership
    clean = partial(run_janitor, pool=pool, lead=leadership.of("janitor"), stopping=stopping)
    yield Child("janitor", clean, DEPENDENT)
    yield Child("leader", partial(run_leader, pool=pool, leadership=leadership, stopping=stopping), DEPENDENT)


def _http(parts: Parts) -> Iterator[Child]:
    from regsvc.serving import make_server  # noqa: PLC0415 - a worker loads no web framework

    yield Child("http", make_server(parts).serve, CRASHING, give_up_after=HTTP_ATTEMPTS)


def _health(parts: Parts) -> Iterator[Child]:
    """Serve a worker's health endpoints. It keeps working when their port is taken, so this child never gives up."""
    settings = parts.settings
    if not settings.http_port:
        return
    process = Process(
        settings,
        parts.http_pool,
        parts.lane,
        parts.hub,
        parts.readiness,
        parts.stopping,
        parts.children,
        member=parts.member,
    )
    server = Server(
        HealthApplication(process),
        hosts=settings.http_host,
        port=settings.http_port,
        handed=None if parts.member is None else parts.member.handed,
        limits=Limits(keep_alive=settings.http_idle_seconds),
        spared=(*LOOPBACK, *settings.trusted_proxies),
        stopping=parts.stopping,
        lame_duck=parts.lame_duck,
        on_request=note_request,
    )
    yield Child("http", server.serve, CRASHING)


def _listener(parts: Parts) -> Iterator[Child]:
    listen = partial(
        run_listener,
        conninfo=parts.settings.listen_conninfo,
        pool=parts.work_pool,
        hub=parts.hub,
        stopping=parts.stopping,
    )
    yield Child("listener", listen, DEPENDENT)
    review = partial(run_review, pool=parts.work_pool, hub=parts.hub, stopping=parts.stopping)
    yield Child("review", review, DEPENDENT)
    watch = partial(run_watcher, pool=parts.work_pool, hub=parts.hub, stopping=parts.stopping)
    yield Child("watcher", watch, DEPENDENT)


def _relay(parts: Parts) -> Iterator[Child]:
    from regsvc.consumer.relay import run_relay  # noqa: PLC0415 - without a broker none of it is loaded

    assert parts.settings.amqp_url is not None  # noqa: S101 - the caller looked
    run = partial(
        run_relay,
        pool=parts.work_pool,
        conninfo=parts.settings.listen_conninfo,
        url=parts.settings.amqp_url.get_secret_value(),
        lead=parts.leadership.of("relay"),
        stopping=parts.stopping,
    )
    yield Child("relay", run, DEPENDENT)


def _event_exchange(parts: Parts) -> Iterator[Child]:
    from regsvc.consumer.events.exchange import run_event_exchange  # noqa: PLC0415 - only where it is used

    assert parts.settings.amqp_url is not None  # noqa: S101 - the caller looked
    run = partial(
        run_event_exchange,
        pool=parts.work_pool,
        conninfo=parts.settings.listen_conninfo,
        url=parts.settings.amqp_url.get_secret_value(),
        exchange=parts.settings.events_exchange,
        source=parts.settings.public_url,
        lead=parts.leadership.of("events"),
        stopping=parts.stopping,
    )
    yield Child("events", run, DEPENDENT)


def _webhooks(parts: Parts) -> Iterator[Child]:
    from regsvc.consumer.events.waiting import run_webhooks_when_wanted  # noqa: PLC0415 - it loads little

    settings = parts.settings
    run = partial(
        run_webhooks_when_wanted,
        pool=parts.work_pool,
        conninfo=settings.listen_conninfo,
        settings=settings,
        secrets=parts.secrets,
        dev=parts.dev,
        lead=parts.leadership.of("webhooks"),
        stopping=parts.stopping,
    )
    yield Child("webhooks", run, DEPENDENT)


def _unsent_facts(parts: Parts) -> Iterator[Child]:
    lead = parts.leadership.of("unsent")
    run = partial(run_unsent_facts, pool=parts.work_pool, lead=lead, stopping=parts.stopping)
    yield Child("unsent", run, DEPENDENT)


def _bounce_mailbox(parts: Parts) -> Iterator[Child]:
    place = parts.settings.bounce_mailbox
    if place is None:
        return
    from regsvc.consumer.bounce_mailbox import BounceMailbox  # noqa: PLC0415 - only where it is used
    from regsvc.consumer.token import StoredToken  # noqa: PLC0415 - likewise

    token = StoredToken(parts.work_pool, parts.secrets).get
    mailbox = BounceMailbox(parts.work_pool, parts.secrets, get_senders(parts.settings), place, token)
    yield Child("mailbox", partial(mailbox.run, stopping=parts.stopping), DEPENDENT)


def _sending(parts: Parts) -> Iterator[Child]:
    """Build the children that claim mails and the one courier that they all hand them to."""
    settings, token = parts.settings, None
    if settings.uses_oauth:
        from regsvc.consumer.token import StoredToken, run_token  # noqa: PLC0415 - only where it is used

        token = StoredToken(parts.work_pool, parts.secrets).get
        renew = partial(
            run_token,
            pool=parts.work_pool,
            settings=settings,
            secrets=parts.secrets,
            stopping=parts.stopping,
        )
        yield Child("smtp token", renew, DEPENDENT)
    courier = Courier(
        parts.work_pool,
        partial(open_ways_out, settings, token),
        _writer(parts),
        sessions=settings.smtp_sessions,
        spaced=parts.spaced,
        stopping=parts.stopping,
        exchangers=Exchangers(Resolver(settings.dns_server)),
    )
    yield Child("courier", courier.run, DEPENDENT)
    if settings.amqp_url is not None:
        from regsvc.consumer.subscriber import run_subscriber  # noqa: PLC0415 - likewise

        url = settings.amqp_url.get_secret_value()
        subscribe = partial(run_subscriber, courier=courier, url=url, stopping=parts.stopping)
        yield Child("subscriber", subscribe, DEPENDENT)
    run = partial(
        run_mailer,
        courier=courier,
        conninfo=settings.listen_conninfo,
        overdue=AT_ONCE if settings.amqp_url is None else BROKER_MISSED,
        stopping=parts.stopping,
    )
    yield Child("mailer", run, DEPENDENT)


def _foreign(parts: Parts) -> Iterator[Child]:
    from regsvc.consumer.legacy_mail import run_legacy_mail  # noqa: PLC0415 - likewise

    settings = parts.settings
    assert settings.foreign_amqp_url is not None  # noqa: S101 - the settings saw to it
    assert settings.foreign_queue is not None  # noqa: S101 - likewise
    run = partial(
        run_legacy_mail,
        pool=parts.work_pool,
        url=settings.foreign_amqp_url.get_secret_value(),
        queue=settings.foreign_queue,
        secrets=parts.secrets,
        local_domains=settings.local_domains,
        stopping=parts.stopping,
    )
    yield Child("foreign", run, DEPENDENT)


def _writer(parts: Parts) -> LetterWriter:
    settings = parts.settings
    return LetterWriter(
        secrets=parts.secrets,
        renderer=make_renderer(settings),
        sender=settings.mail_from.addr_spec,
        public_url=settings.public_url,
        announcer=parts.announcer,
        return_path=None if settings.mail_return_path is None else settings.mail_return_path.addr_spec,
    )
