"""Log in to a mail server: the mechanisms, and the order in which they are tried (RFC 4954)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from regsvc.mail.outcome import Delayed, Failure, Reason, Refused
from regsvc.mail.smtp.connection import SessionFailedError
from regsvc.mail.smtp.dialogue import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsvc.mail.smtp.connection import Wire
    from regsvc.mail.smtp.dialogue import Reply

TokenSource: TypeAlias = Callable[[], Awaitable[str]]
"""Returns a valid access token.

Raises:
    TokenUnavailableError: there is none now.
"""


class TokenUnavailableError(Exception):
    """There is no access token now; `refused` if the token server objects to us."""

    def __init__(self, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.refused = refused


MECHANISMS: Final = ("PLAIN", "LOGIN", "CRAM-MD5")
_CHALLENGE: Final = 334
_UNKNOWN: Final = 504  # the mechanism is not implemented, whatever EHLO said (RFC 4954, 6)


async def log_in(wire: Wire, offered: Sequence[str], username: str, password: str) -> None:
    """Log in with the first mechanism that the server offers and accepts.

    Args:
        wire: connection after the greeting, encrypted if required.
        offered: mechanisms from the reply to EHLO.
        username: in Unicode.
        password: in Unicode.

    Raises:
        SessionFailedError: the server refused, or offers no supported mechanism.
    """
    usable = [mechanism for mechanism in MECHANISMS if mechanism in offered]
    for mechanism in usable:
        reply = await _try(wire, mechanism, username, password)
        failure = judge("auth", reply)
        if failure is None:
            return
        if reply.code != _UNKNOWN:
            raise SessionFailedError(_told(reply, failure))
    said = f"the server offers {' '.join(offered)[:200] or 'none'}; regsvc supports {' '.join(MECHANISMS)}"
    if usable:
        said = f"{reply}; {said}"
    raise SessionFailedError(Refused("auth_not_offered", "auth", said))


async def log_in_by_token(wire: Wire, offered: Sequence[str], username: str, token: TokenSource) -> None:
    """Log in with an access token, by XOAUTH2 as Google and Microsoft document it.

    Args:
        wire: encrypted connection after the greeting.
        offered: mechanisms from the reply to EHLO.
        username: address of the mailbox.
        token: gives the token.

    Raises:
        SessionFailedError: the server refused or does not offer XOAUTH2, or there is no token.
    """
    if "XOAUTH2" not in offered:
        said = f"the server offers {' '.join(offered)[:200] or 'none'}; the URL asks for XOAUTH2"
        raise SessionFailedError(Refused("auth_not_offered", "auth", said))
    try:
        access = await token()
    except TokenUnavailableError as error:
        kind = Refused if error.refused else Delayed
        reason: Reason = "auth_failed" if error.refused else "auth_unavailable"
        raise SessionFailedError(kind(reason, "auth", str(error))) from error
    answer = base64.b64encode(f"user={username}\1auth=Bearer {access}\1\1".encode())
    reply = await _ask(wire, b"AUTH XOAUTH2 " + answer + b"\r\n")
    if reply.code == _CHALLENGE:  # it holds the error; an empty answer brings the reply
        reply = await _ask(wire, b"\r\n")
    failure = judge("auth", reply)
    if failure is not None:
        raise SessionFailedError(_told(reply, failure))


async def _try(wire: Wire, mechanism: str, username: str, password: str) -> Reply:
    """Return the last reply to one mechanism."""
    match mechanism:
        case "PLAIN":  # RFC 4616
            answers = [f"\0{username}\0{password}".encode()]
            reply = await _ask(wire, b"AUTH PLAIN " + base64.b64encode(answers.pop()) + b"\r\n")
        case "LOGIN":  # not in any RFC, but the only one on some servers
            answers = [username.encode(), password.encode()]
            reply = await _ask(wire, b"AUTH LOGIN\r\n")
        case _:  # RFC 2195
            reply = await _ask(wire, b"AUTH CRAM-MD5\r\n")
            answers = [_answer_challenge(reply, username, password)] if reply.code == _CHALLENGE else []
    for answer in answers:
        if reply.code // 100 == 2:  # noqa: PLR2004 - done, before anything was asked
            raise SessionFailedError(Delayed("protocol_error", "auth", str(reply)))
        if reply.code != _CHALLENGE:
            break
        reply = await _ask(wire, base64.b64encode(answer) + b"\r\n")
    return reply


def _answer_challenge(reply: Reply, username: str, password: str) -> bytes:
    try:
        challenge = base64.b64decode(reply.lines[0].strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SessionFailedError(Delayed("protocol_error", "auth", str(reply))) from error
    digest = hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()
    return f"{username} {digest}".encode()


async def _ask(wire: Wire, line: bytes) -> Reply:
    await wire.write("auth", line)
    return await wire.reply("auth")


def _told(reply: Reply, failure: Failure) -> Failure:
    """Treat an unexpected challenge as a protocol error."""
    return Delayed("protocol_error", "auth", str(reply)) if reply.code == _CHALLENGE else failure
