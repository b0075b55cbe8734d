"""Ask the operator's own service about each sign-up, before anything is stored or looked up.

It is called for every attempt alike, so its answer tells nothing of accounts. While it waits it holds neither a
database connection nor a place in the line of passwords to hash.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
import trio

from regsvc.errors import RegsvcError, UnavailableError
from regsvc.metrics import HOOK_CALLS
from regsvc.webhooks.signature import sign

if TYPE_CHECKING:
    from regsvc.config.settings import Settings
    from regsvc.flows.caller import Caller

log = structlog.get_logger()

SECONDS: Final = 2.0  # for a call
AT_ONCE: Final = 16  # calls of a process
_FAILURES: Final = 5  # in a row, that open the breaker
_PAUSE: Final = 10.0  # seconds for which it stays open
_MOST_TEXT: Final = 200  # characters of a refusal
_MOST_DATA: Final = 4096  # bytes of `app_data`


class SignupRefusedError(RegsvcError):
    """This service does not accept your sign-up."""

    code = "signup_refused"


class SignupUnavailableError(UnavailableError):
    """Signing up is not possible at the moment. Try again in a few seconds."""

    code = "signup_unavailable"


class _FailedError(Exception):
    """The hook gave no answer that can be used; the text says why."""


@dataclass
class SignupHook:
    """The hook before a sign-up, its breaker, and the calls under way.

    Args:
        settings: of this process.
    """

    settings: Settings
    _under_way: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _closed_until: float = field(default=0.0, init=False)

    async def ask(self, caller: Caller, *, email: str, name: str, method: str) -> dict[str, Any] | None:
        """Ask about an attempt and return the `app_data` that it gets.

        Args:
            caller: the client.
            email: the address as it will be mailed.
            name: as it was typed.
            method: `password`, `passkey`, `invitation`, or the name of an identity provider.

        Raises:
            SignupRefusedError: the hook refuses; with its text.
            SignupUnavailableError: the hook cannot be asked, and the operator wants no sign-ups without it.
        """
        if not self.settings.hook_before_signup:
            return None
        told = {
            "email": email,
            "name": name,
            "locale": caller.locale,
            "network": caller.origin,
            "client": caller.client,
            "method": method,
        }
        try:
            answer = await self._call(told)
            refusal, app_data = read_answer(answer)
        except _FailedError as error:
            HOOK_CALLS.labels("failed").inc()
            log.warning("sign-up hook failed", reason=str(error))
            if self.settings.hook_before_signup_fail == "closed":
                raise SignupUnavailableError from None
            return None
        HOOK_CALLS.labels("allowed" if refusal is None else "refused").inc()
        if refusal is not None:
            raise SignupRefusedError(refusal or None)
        return app_data

    async def _call(self, told: dict[str, str]) -> bytes:
        from regsvc.webhooks.request import UnreachableError, post  # noqa: PLC0415 - only where a hook is set

        if trio.current_time() < self._closed_until:
            raise _FailedError("paused after failures")
        if self._under_way >= AT_ONCE:
            raise _FailedError("too many calls at once")
        secret = self.settings.hook_before_signup_secret
        assert secret is not None  # noqa: S101 - the settings saw to it
        body = json.dumps({"type": "signup.before", "data": told}, ensure_ascii=False).encode()
        headers = sign([secret.get_secret_value()], str(uuid4()), int(time.time()), body)
        self._under_way += 1
        try:
            reply = await post(
                self.settings.hook_before_signup,
                {"Content-Type": "application/json", **headers},
                body,
                allowed=(),
                seconds=SECONDS,
                anywhere=True,
            )
        except UnreachableError as error:
            self._count_failure()
            raise _FailedError(str(error)) from error
        finally:
            self._under_way -= 1
        if not reply.taken:
            self._count_failure()
            raise _FailedError(f"status {reply.status}")
        self._failures = 0
        return reply.body

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._closed_until = trio.current_time() + _PAUSE


def read_answer(body: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """Return the text of a refusal, or None, and the `app_data`, or None. An empty body allows.

    Raises:
        _FailedError: it is something else.
    """
    if not body.strip():
        return None, None
    try:
        answer = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _FailedError("answer is no JSON") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("allow", True), bool):
        raise _FailedError("answer is no JSON object with a boolean `allow`")
    if not answer.get("allow", True):
        text = answer.get("message")
        plain = "".join(char for char in text if char.isprintable()) if isinstance(text, str) else ""
        return plain[:_MOST_TEXT].strip(), None
    app_data = answer.get("app_data")
    if app_data is None:
        return None, None
    if not isinstance(app_data, dict) or not _is_storable(app_data):
        raise _FailedError("app_data is no JSON object of at most 4 kB")
    return None, app_data


def _is_storable(app_data: dict[str, Any]) -> bool:
    try:
        text = json.dumps(app_data, ensure_ascii=False, allow_nan=False)
        return len(text.encode()) <= _MOST_DATA and "\\u0000" not in text  # PostgreSQL stores no U+0000
    except (ValueError, RecursionError):  # UnicodeEncodeError is a ValueError: half of a surrogate pair
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
