"""Signing keys as the API shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from regsvc.config.settings import TokenAlgorithm
from regsvc.schemas.formats import Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.signing.key_store import KeyState, StoredKey


class KeyShown(TypedDict):
    """A signing key, without either half."""

    kid: str
    algorithm: TokenAlgorithm
    state: Annotated[
        KeyState, Field(description="`announced` before it signs, `verifying` when it signs no more.")
    ]
    created_at: Timestamp
    signs_from: Timestamp
    retired_at: Annotated[Timestamp | None, Field(description="When it signs no more, if that is known.")]
    served_until: Annotated[
        Timestamp | None, Field(description="When the last token that it signed is dead.")
    ]


class KeysShown(TypedDict):
    """The signing keys, those that sign last first."""

    keys: list[KeyShown]


def show_keys(keys: list[StoredKey]) -> KeysShown:
    """Return signing keys in words of the API."""
    return {
        "keys": [
            {
                "kid": key.kid,
                "algorithm": key.algorithm,
                "state": key.state,
                "created_at": timestamp(key.created_at),
                "signs_from": timestamp(key.signs_from),
                "retired_at": timestamp(key.retired_at),
                "served_until": timestamp(key.served_until),
            }
            for key in keys
        ]
    }
