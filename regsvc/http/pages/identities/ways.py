"""The buttons of identity providers, and which one this browser used last.

Only this browser knows: a cookie, set once a provider has logged a user in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from quart import Response

from regsvc.http.context import get_context
from regsvc.http.pages.forms import get_cookies, set_cookie

_COOKIE = "regsvc-way"
_KEPT = timedelta(days=365)


@dataclass(frozen=True)
class Way:
    """A provider's button.

    Args:
        name: of the provider, as in paths.
        label: for people.
        last_used: whether this browser logged in by it the last time.
    """

    name: str
    label: str
    last_used: bool


def list_ways() -> list[Way]:
    """Return the providers, in the order of their names."""
    providers = get_context().settings.oidc_providers
    last = next(iter(get_cookies(_COOKIE)), "") if providers else ""
    return [Way(each.name, each.label, each.name == last) for each in providers]


def label_of(name: str) -> str:
    """Return what people call a provider, also one that is no longer in the settings."""
    provider = get_context().settings.find_provider(name)
    return name if provider is None else provider.label


def keep_way(response: Response, name: str) -> None:
    """Remember by which provider this browser logged in; an empty name: by none."""
    if name or next(iter(get_cookies(_COOKIE)), ""):
        set_cookie(response, _COOKIE, name, seconds=int(_KEPT.total_seconds()))
