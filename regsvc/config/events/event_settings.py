"""The settings of events for other services."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from regsvc.config import notations

_Switch = Annotated[bool, BeforeValidator(notations.switch)]
_Networks = Annotated[notations.Networks, BeforeValidator(notations.networks)]
_EXCHANGE = re.compile(r"(?!amq\.)[A-Za-z0-9_.:-]{0,255}")


def _exchange(text: str) -> str:
    if not _EXCHANGE.fullmatch(text):
        raise ValueError("has to be a name of letters, digits and _.:- that does not begin with amq.")
    return text


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
    webhooks_allow: _Networks = Field(
        (),
        description="networks (CIDR, separated by commas) that webhooks may reach although they are private, there "
        "also by `http://`; none, in `dev` this machine",
    )
