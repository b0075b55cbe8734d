"""Parse the URL of a mail provider's HTTP API. It contains a key, so no message here quotes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast, get_args
from urllib.parse import unquote, urlsplit

from regsvc.config.notations import read_options

ProviderName: TypeAlias = Literal["resend", "postmark", "sendgrid", "mailgun", "ses"]

PROVIDERS: Final[tuple[ProviderName, ...]] = get_args(ProviderName)
_PLACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]+")
_HOSTS: Final[dict[ProviderName, str]] = {
    "resend": "api.resend.com",
    "postmark": "api.postmarkapp.com",
    "sendgrid": "api.sendgrid.com",
    "mailgun": "api.mailgun.net",
}
_OPTIONS: Final[dict[ProviderName, tuple[str, ...]]] = {
    "resend": ("base",),
    "postmark": ("stream", "base"),
    "sendgrid": ("region", "base"),
    "mailgun": ("region", "base"),
    "ses": ("configuration_set", "base"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailProvider:
    """A provider's HTTP API, and our credentials there. Its repr has no secret.

    Args:
        name: the provider.
        key: API key or token; of `ses` the secret access key.
        key_id: access key id; of `ses` alone.
        place: domain of `mailgun`, or region of `ses`; else empty.
        base: URL before the path, without a slash at its end.
        overridden: `base` is not the provider's own.
        options: other options of the URL.
    """

    name: ProviderName
    key: str = field(repr=False)
    key_id: str = ""
    place: str = ""
    base: str = ""
    overridden: bool = False
    options: dict[str, str] = field(default_factory=dict)


def is_provider_url(text: str) -> bool:
    """Return whether a URL begins with a provider's name."""
    return text.partition(":")[0].lower() in PROVIDERS


def read_provider_url(text: str) -> MailProvider:
    """Parse a provider's URL.

    Args:
        text: `resend://KEY@`, `postmark://TOKEN@`, `sendgrid://KEY@`, `mailgun://KEY@DOMAIN` or
            `ses://KEY_ID:SECRET@REGION`, each with options.

    Raises:
        ValueError: what is wrong, to be appended to the name of the setting.
    """
    try:
        url = urlsplit(text)
        usable = text.isprintable() and " " not in text and not url.fragment and url.path in {"", "/"}
    except ValueError:
        usable = False
    if not usable or "@" not in url.netloc:
        raise ValueError(
            "is not a provider's URL; write it as name://KEY@, with / : @ in a key as %2F %3A %40"
        )
    name = cast("ProviderName", url.scheme)
    user, _, place = url.netloc.rpartition("@")
    key_id, _, secret = (unquote(part) for part in user.partition(":"))
    options = read_options(url.query, _OPTIONS[name])
    base = options.pop("base", "").rstrip("/")
    if base and urlsplit(base).scheme not in {"http", "https"}:
        raise ValueError("has a base that is not an http:// or https:// URL")
    _check_place(name, place)
    if name != "ses" and secret:
        raise ValueError("has a password; a provider's key stands alone before the @")
    key, key_id = (secret, key_id) if name == "ses" else (key_id, "")
    if not key or (name == "ses" and not key_id):
        raise ValueError("has no key" if name != "ses" else "needs KEY_ID:SECRET before the @")
    if not re.fullmatch(r"[!-~]+", key + key_id):
        raise ValueError("has a key with characters other than printable ASCII")
    region = options.pop("region", "")
    if region not in {"", "us", "eu"}:
        raise ValueError("has an unknown region; known are us, eu")
    return MailProvider(
        name=name,
        key=key,
        key_id=key_id,
        place=place,
        base=base or f"https://{_host(name, place, region)}",
        overridden=bool(base),
        options=options,
    )


def _check_place(name: ProviderName, place: str) -> None:
    if name == "ses" and not _REGION.fullmatch(place):
        raise ValueError("needs a region such as eu-central-1 after the @")
    if name == "mailgun" and not _PLACE.fullmatch(place):
        raise ValueError("needs its domain after the @")
    if name not in {"ses", "mailgun"} and place:
        raise ValueError("has something after its @")


def _host(name: ProviderName, place: str, region: str) -> str:
    if name == "ses":
        return f"email.{place}.amazonaws.com"
    host = _HOSTS[name]
    return host.replace("api.", "api.eu.", 1) if region == "eu" else host
