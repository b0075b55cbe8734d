"""Send mail by a provider's HTTP API, with one request for each mail."""

from __future__ import annotations

import re
import ssl
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import trio

from regsvc.mail.mailbox import UnusableAddressError, read_mailbox
from regsvc.mail.outcome import (
    Aborted,
    Accepted,
    Bounced,
    Delayed,
    Outcome,
    Reason,
    Stage,
)
from regsvc.mail.providers.answers import Answer, judge_answer
from regsvc.mail.providers.requests import ApiRequest, build_request
from regsvc.mail.smtp.connection import Deadlines
from regsvc.metrics import SMTP_STAGE
from regsvc.tracing.spans import Stopwatch, record

if TYPE_CHECKING:
    import httpcore2

    from regsvc.config.provider_url import MailProvider
    from regsvc.mail.envelope import Envelope
    from regsvc.mail.smtp.session import BeforeDot, OnConnected

MAX_ANSWER: Final = 64 * 1024
"""Octets of an answer that are read."""
_IDLE: Final = 10.0  # seconds; servers close idle connections themselves, later


class _WithdrawnError(Exception):
    """`before_dot` withdrew the mail."""


class _Progress:
    """How far a request has come, and what is asked and told on its way."""

    def __init__(self, before_dot: BeforeDot | None, on_connected: OnConnected | None) -> None:
        self.stage: Stage = "connect"
        self.sent = False
        self.status: int | None = None
        self._before_dot = before_dot
        self._on_connected = on_connected

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Follow the events of httpcore2."""
        del info
        if event.endswith("start_tls.started"):
            self.stage = "tls"
        elif event.endswith("send_request_headers.started"):
            self.stage = "request"
            if self._on_connected is not None:
                self._on_connected()
            if self._before_dot is not None and not self._before_dot():
                raise _WithdrawnError
        elif event.endswith("send_request_body.complete"):
            self.sent = True

    def fail(self, reason: Reason, detail: str) -> Delayed:
        """Return the outcome of a request that was cut off. Once it was sent, the provider may have the mail."""
        detail = re.sub(r"[^\x20-\x7e]", "?", detail)[:300]
        return Delayed(reason, self.stage, detail, after_dot=self.sent)


class ProviderTransport:
    """Sends mails by one provider's API, several at a time.

    Redirects are not followed, and proxies of the environment not used: the request carries our key.

    Args:
        provider: whose API, and our credentials.
        connections: maximum number of requests at a time; further callers wait in line.
        deadlines: seconds to connect, to send, and to be answered.
        tls: checks the server's certificate; None uses the system's trusted authorities.
    """

    def __init__(
        self,
        provider: MailProvider,
        *,
        connections: int = 4,
        deadlines: Deadlines | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._provider = provider
        self._deadlines = deadlines or Deadlines()
        self._tls = tls
        self._connections = connections
        self._slots = trio.Semaphore(connections)
        self._open: httpcore2.AsyncConnectionPool | None = None

    async def send(
        self,
        envelope: Envelope,
        before_dot: BeforeDot | None = None,
        on_connected: OnConnected | None = None,
    ) -> Outcome:
        """Send one mail and return the outcome. Only bugs raise.

        Args:
            envelope: the mail.
            before_dot: called once, right before the request is sent; on False it is not.
            on_connected: called once the provider is reached.
        """
        try:
            mailbox = read_mailbox(envelope.recipient)
        except UnusableAddressError:
            return Bounced("recipient_invalid", "rcpt")
        if not mailbox.wire.isascii() and self._provider.name != "sendgrid":
            return Bounced("smtputf8_not_supported", "rcpt")
        request = build_request(self._provider, envelope)
        async with self._slots:
            watch, progress = Stopwatch(), _Progress(before_dot, on_connected)
            outcome = await self._request(request, progress)
        _note_request(watch.lap(), outcome, progress.status)
        return outcome

    async def check(self, sender: str | None = None) -> Outcome:
        """Connect, without a request: an API has none that shows whether it would take a mail."""
        del sender
        withdrawn = _Progress(lambda: False, None)
        outcome = await self._request(ApiRequest("/", {}, b""), withdrawn)
        return Accepted("connected") if isinstance(outcome, Aborted) else outcome

    async def tend(self) -> None:
        """Wait until cancelled: idle connections close when the next request looks at them."""
        await trio.sleep_forever()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._open is not None:
            pool, self._open = self._open, None
            await pool.aclose()

    def _pool(self) -> httpcore2.AsyncConnectionPool:
        # Imported here, so that a process that sends by SMTP does not load it.
        import httpcore2  # noqa: PLC0415

        if self._open is None:
            self._open = httpcore2.AsyncConnectionPool(
                ssl_context=self._tls or ssl.create_default_context(),
                max_connections=self._connections + 1,
                max_keepalive_connections=self._connections,
                keepalive_expiry=_IDLE,
                network_backend=httpcore2.TrioBackend(),
            )
        return self._open

    async def _request(self, request: ApiRequest, progress: _Progress) -> Outcome:
        import httpcore2  # noqa: PLC0415 - likewise

        limits = self._deadlines
        headers: dict[bytes | str, bytes | str] = {
            "User-Agent": "regsvc",
            "Accept": "application/json",
            **dict[bytes | str, bytes | str](request.headers.items()),
        }
        timeouts = {
            "connect": limits.connect,
            "pool": limits.connect,
            "write": limits.data,
            "read": limits.after_dot,
        }
        try:
            with trio.fail_after(limits.connect + limits.data + limits.after_dot):
                async with self._pool().stream(
                    "POST",
                    f"{self._provider.base}{request.path}",
                    headers=headers,
                    content=request.body,
                    extensions={"trace": progress.trace, "timeout": timeouts},
                ) as response:
                    body = await _read(response)
                    names = {
                        name.decode("latin-1").lower(): value.decode("latin-1")
                        for name, value in response.headers
                    }
                    progress.status = response.status
                    answer = Answer(response.status, names, body)
        except _WithdrawnError:
            return Aborted()
        except (httpcore2.TimeoutException, trio.TooSlowError):
            return progress.fail("timeout", "")
        except httpcore2.ConnectError as error:
            return progress.fail(*_explain(error))
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            protocol = isinstance(error, httpcore2.ProtocolError)
            return progress.fail("protocol_error" if protocol else "disconnected", str(error))
        return judge_answer(self._provider.name, answer)


def _note_request(seconds: float, outcome: Outcome, status: int | None) -> None:
    """Note a request, from connecting to its answer."""
    if isinstance(outcome, Aborted):
        return
    kind = {Accepted: "ok", Delayed: "transient"}.get(type(outcome), "permanent")
    if isinstance(outcome, Delayed) and status is None:
        kind = "lost"
    SMTP_STAGE.labels("request", kind).observe(seconds)
    attributes = {} if status is None else {"http.response.status_code": status}
    record("mail provider request", seconds, kind="client", failed=kind != "ok", attributes=attributes)


async def _read(response: httpcore2.Response) -> bytes | None:
    """Return the body, or None if it is too long or cut short: the status says most."""
    import httpcore2  # noqa: PLC0415 - likewise

    body = bytearray()
    try:
        async with aclosing(response.aiter_stream()) as stream:
            async for octets in stream:
                body += octets
                if len(body) > MAX_ANSWER:
                    return None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
        return None
    return bytes(body)


def _explain(error: Exception) -> tuple[Reason, str]:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "tls_failed", cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return "tls_failed", str(cause)
        cause = cause.__cause__ or cause.__context__
    return "connect_failed", str(error)
