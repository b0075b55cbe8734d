"""The settings of events for other services."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from regsvc.config import notations

_Switch = Annotated[bool, BeforeValidator(notations.switch)]
_Networks = Annotated[notations.Networks, BeforeValidator(notations.networks)]
_Lower = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
_EXCHANGE = re.compile(r"(?!amq\.)[A-Za-z0-9_.:-]{0,255}")


def _exchange(text: str) -> str:
    if not _EXCHANGE.fullmatch(text):
        raise ValueError("has to be a name of letters, digits and _.:- that does not begin with amq.")
    return text


def _hook_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None):
        raise ValueError("has to be an http:// or https:// URL without a user")
    return text


def _hook_secret(secret: SecretStr) -> SecretStr:
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not secret.get_secret_value().startswith("whsec_") or not 24 <= len(key) <= 64:  # noqa: PLR2004 - Standard Webhooks
        raise ValueError("has to be whsec_ and 24 to 64 bytes in base64")
    return secret


class EventSettings(BaseModel):
    """The settings of events for other services, a part of `regsvc.config.settings.Settings`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    events_exchange: Annotated[str, AfterValidator(_exchange)] = Field(
        "",
        description="durable topic exchange in RabbitMQ that events are published to, such as `accounts.events`; "
        "unset, none. See [events](events.md)",
    )
    events_address: _Switch = Field(
        default=False,
        description="`on`: what webhooks receive has the user's or registration's email address; RabbitMQ never has",
    )
    hook_before_signup: Annotated[str, AfterValidator(_hook_url)] = Field(
        "",
        description="URL that is asked about every sign-up before it is stored; it may be private. See "
        "[the hook before a sign-up](events.md#the-hook-before-a-sign-up)",
    )
    hook_before_signup_secret: Annotated[SecretStr, AfterValidator(_hook_secret)] | None = Field(
        None, description="secret `whsec_…` that signs what the hook is asked"
    )
    hook_before_signup_fail: Annotated[Literal["open", "closed"], _Lower] = Field(
        "open",
        description="what happens to sign-ups while the hook cannot be asked: `open`, they go on; `closed`, 503",
    )
    webhooks_allow: _Networks = Field(
        (),
        description="networks (CIDR, separated by commas) that webhooks may reach although they are private, there "
        "also by `http://`; none, in `dev` this machine",
    )
