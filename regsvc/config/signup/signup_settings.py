"""The settings of who may sign up, and on what conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from regsvc.config.signup.domain_names import DomainRules, read_domain_rules

SignupMode = Literal["open", "invite", "closed"]
ChallengeMode = Literal["off", "auto", "on"]

_TERMS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})=(https?://[^\s\"'<>]{1,2000})")


@dataclass(frozen=True)
class Terms:
    """The terms of use that a user accepts.

    Args:
        version: name of their present version.
        url: where they can be read.
    """

    version: str
    url: str


def read_terms(value: object) -> object:
    """Parse `VERSION=URL`.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str):
        return value
    found = _TERMS.fullmatch(value.strip())
    if found is None:
        raise ValueError("must have the form VERSION=URL, such as 2026-01=https://example.org/terms")
    return Terms(found[1], found[2])


def _read_rules(value: object) -> object:
    return read_domain_rules(value) if isinstance(value, str) else value


_Lower = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
_Domains = Annotated[DomainRules | None, BeforeValidator(_read_rules)]


class SignupSettings(BaseModel):
    """The settings of who may sign up, a part of `regsvc.config.settings.Settings`."""

    signup: Annotated[SignupMode, _Lower] = Field(
        "open",
        description="who may sign up: `open`, every client; `invite`, those with an invitation; `closed`, none. See "
        "[sign-up policy](sign-up-policy.md)",
    )
    domains_allow: _Domains = Field(
        None,
        description="domains whose addresses alone may sign up or move an account there, separated by commas: names, "
        "`*.example.org` for the names below one, and paths of files with a name a line",
    )
    domains_deny: _Domains = Field(
        None,
        description="domains whose addresses may not, written alike; the word `disposable` stands for a list of "
        "services that give out throw-away addresses, with `pip install 'regsvc[disposable]'`",
    )
    terms: Annotated[Terms | None, BeforeValidator(read_terms)] = Field(
        None,
        description="terms of use that a sign-up has to accept, as `VERSION=URL`; a new version is asked for on the "
        "account page",
    )
    challenge: Annotated[ChallengeMode, _Lower] = Field(
        "off",
        description="proof of work before every call that mails or hashes: `off`; `auto`, from half of a client's "
        "limits on; `on`, always",
    )
