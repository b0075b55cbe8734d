"""Identities and providers as the API shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from regsvc.accounts.identities.identity import MOST, Identity
from regsvc.schemas.rows import describe_row, show_row
from regsvc.schemas.typed_dict import TypedDict

IdentityShown: Any = describe_row(Identity, "IdentityShown")


class IdentitiesShown(TypedDict):
    """The identities of a user, oldest first."""

    identities: Annotated[list[IdentityShown], Field(description=f"At most {MOST}.")]


class ProviderShown(TypedDict):
    """An identity provider."""

    name: str
    label: Annotated[str, Field(description="For people.")]
    url: Annotated[
        str, Field(description="Where a browser begins; other clients add `return_to` and `code_challenge`.")
    ]


class ProvidersShown(TypedDict):
    """The identity providers of this service."""

    providers: list[ProviderShown]


def show_identity(identity: Identity) -> dict[str, Any]:
    """Return an identity as the API shows it."""
    return show_row(identity)
