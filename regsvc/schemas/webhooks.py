"""Webhooks as administrators add and see them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from regsvc.accounts.events.deliveries import Shown
from regsvc.accounts.events.types import TYPES
from regsvc.accounts.events.webhooks import Webhook
from regsvc.accounts.name import NameInvalidError, check_line
from regsvc.schemas.fields import PAGE, Body, Limit, NumberCursor
from regsvc.schemas.formats import Id
from regsvc.schemas.rows import describe_page, describe_row
from regsvc.schemas.typed_dict import TypedDict


def _refuse(code: str, detail: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{reason}", {"reason": detail})


class WebhookBody(Body):
    """A new webhook."""

    url: Annotated[str, Field(description="Where events are posted.")]
    name: Annotated[str, StringConstraints(max_length=100), Field(description="What it is for.")] = ""
    types: Annotated[
        list[str] | None, Field(description="The types of events that it receives; all by default.")
    ] = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        try:
            return check_line(name) if name else ""
        except NameInvalidError as error:
            raise _refuse(error.code, str(error)) from error

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        from regsvc.webhooks.request import check_url  # noqa: PLC0415 - it loads an HTTP client

        try:
            return check_url(url)
        except ValueError as error:
            raise _refuse("invalid_url", f"The URL {error}.") from error

    @field_validator("types")
    @classmethod
    def _check_types(cls, types: list[str] | None) -> list[str] | None:
        if types is not None and (not types or set(types) - set(TYPES)):
            raise _refuse("unknown_type", f"Some of {', '.join(TYPES)}.")
        return types


def _only_text(value: object) -> object:
    """Refuse a number, which could be seconds or milliseconds."""
    if not isinstance(value, str):
        raise _refuse("invalid_time", "Use a time of RFC 3339, such as 2026-01-31T12:00:00Z.")
    return value


class ReplayBody(Body):
    """Which events to send again."""

    since: Annotated[
        AwareDatetime,
        Field(strict=False, description="Time of the first event, of the last 30 days."),
        BeforeValidator(_only_text),
    ]


class DeliveryQuery(Body):
    """Which deliveries to list."""

    state: Literal["dead"] | None = None
    cursor: NumberCursor | None = None
    limit: Limit = PAGE


WebhookShown = describe_row(Webhook, "WebhookShown")
DeliveryPage = describe_page("DeliveryPage", "deliveries", describe_row(Shown, "DeliveryShown"))


class Webhooks(TypedDict):
    """The webhooks: those in use first, the newest first."""

    webhooks: list[WebhookShown]  # type: ignore[valid-type]


class WebhookSecret(TypedDict):
    """A webhook's secret, which is shown once."""

    id: Id
    secret: str


class TestSent(TypedDict):
    """The delivery of a test event."""

    delivery: Id
