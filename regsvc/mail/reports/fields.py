"""Read fields of JSON from a provider: a wrong type counts as missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from regsvc.mail.reports.report import ReportUnreadableError

Fields: TypeAlias = Mapping[str, Any]

HEADER = "x-regsvc-mail"
TAG = "regsvc_mail"
"""Where mails carry our id: a header, and the metadata or tag that a provider hands back."""
_FIRST_YEAR, _LAST_YEAR = 2000, 2999


def load(raw: bytes | str) -> Any:
    """Return parsed JSON.

    Raises:
        ReportUnreadableError: it is not JSON.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ReportUnreadableError from error


def load_object(raw: bytes | str) -> Fields:
    """Return a parsed JSON object.

    Raises:
        ReportUnreadableError: it is none.
    """
    return need_object(load(raw))


def need_object(value: object) -> Fields:
    """Return a value that has to be an object.

    Raises:
        ReportUnreadableError: it is none.
    """
    if not isinstance(value, dict):
        raise ReportUnreadableError
    return value


def get_object(fields: Fields, name: str) -> Fields:
    """Return an object, or an empty one."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def get_text(fields: Fields, name: str) -> str:
    """Return a text, or an empty one."""
    value = fields.get(name)
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def get_texts(value: object) -> tuple[str, ...]:
    """Return a text, or the texts of a list."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for text in values if isinstance(text, str) and text)


def read_time(value: object) -> datetime:
    """Return an ISO 8601 text or seconds since 1970 as a time in UTC.

    Raises:
        ReportUnreadableError: it is neither, or no time of a report.
    """
    try:
        if isinstance(value, int | float):
            return check_time(datetime.fromtimestamp(value, UTC))
        if isinstance(value, str):
            return check_time(datetime.fromisoformat(value.strip().replace(" +00", "+00:00")))
    except (ValueError, OverflowError, OSError) as error:
        raise ReportUnreadableError from error
    raise ReportUnreadableError


def check_time(moment: datetime) -> datetime:
    """Return a time in UTC.

    Raises:
        ValueError: a mail of ours cannot have been reported then; a database may not know the year.
        OverflowError: likewise.
    """
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError
    return moment
