"""What a client has to do before it may sign up, as the API shows it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from regsvc.schemas.typed_dict import TypedDict


class ChallengeParameters(TypedDict):
    """What to find: a number whose hash, with salt and nonce before it, begins as asked."""

    algorithm: str
    nonce: str
    salt: str
    cost: int
    keyLength: int  # noqa: N815 - ALTCHA's names
    keyPrefix: str  # noqa: N815
    expiresAt: Annotated[int, Field(description="Seconds since 1970.")]  # noqa: N815
    data: Annotated[dict[str, str], Field(description="`purpose`: the call that the solution is good for.")]


class ChallengeShown(TypedDict):
    """A proof of work, as ALTCHA's clients of version 2 read it."""

    parameters: ChallengeParameters
    signature: str


class TermsShown(TypedDict):
    """The terms to accept."""

    version: str
    url: str
