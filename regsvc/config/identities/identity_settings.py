"""The settings of identity providers (OpenID Connect): `REGSVC_OIDC_<NAME>_…`, one family for each provider."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from regsvc.config import notations

PARTS: Final[dict[str, str]] = {
    "issuer": "issuer of the identity provider, as in its tokens; known for `GOOGLE`, `MICROSOFT`, `APPLE`, `GITHUB` "
    "and `GITLAB`, where it only names a server of your own",
    "client_id": "client id that the provider gave this service",
    "client_secret": "client secret that the provider gave this service",
    "tenant": "tenant of `MICROSOFT`: its id or domain, `common`, `organizations` or `consumers`; unset, `common`",
    "team_id": "team id of `APPLE`",
    "key_id": "id of the private key of `APPLE`",
    "private_key": "private key of `APPLE` in PEM, of which client secrets are made",
    "label": "name of the provider on buttons; unset, its own",
    "domains": "mail domains whose mailboxes the provider itself runs, separated by commas: an account of such an "
    "address is joined without its password",
}
"""What a provider's variables set, each with its meaning."""
SECRET_PARTS: Final = frozenset({"client_secret", "private_key"})
_FAMILY: Final = re.compile(r"REGSVC_OIDC_([A-Z0-9]+)_\w+")
_LIST: Final = "REGSVC_OIDC_RETURN_TO"

LABELS: Final = {
    "google": "Google",
    "microsoft": "Microsoft",
    "apple": "Apple",
    "github": "GitHub",
    "gitlab": "GitLab",
}
_ISSUERS: Final = {
    "google": "https://accounts.google.com",
    "apple": "https://appleid.apple.com",
    "github": "https://github.com",
    "gitlab": "https://gitlab.com",
}
_MICROSOFT: Final = "https://login.microsoftonline.com"
_TENANT: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")
_OWNERS: Final = {"tenant": "microsoft", "team_id": "apple", "key_id": "apple", "private_key": "apple"}
_LONGEST: Final = 512  # characters of a URL or an id
_PRIVATE_SCHEME: Final = re.compile(r"[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+")  # RFC 8252, 7.1


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One identity provider. Its repr has no secret.

    Args:
        name: in lower case, as in paths.
        issuer: its URL; of `github`, which has no ID tokens, the site.
        client_id: of this service.
        client_secret: of this service; of `apple` made of the private key.
        team_id: of `apple`.
        key_id: of `apple`.
        private_key: of `apple`, in PEM.
        label: for people.
        domains: whose mailboxes it runs.
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    team_id: str = ""
    key_id: str = ""
    private_key: str = field(default="", repr=False)
    label: str = ""
    domains: frozenset[str] = frozenset()

    @property
    def has_id_tokens(self) -> bool:
        """Whether the provider speaks OpenID Connect, not OAuth alone."""
        return self.name != "github"

    @property
    def posts_answer(self) -> bool:
        """Whether the provider has the browser post its answer to us (Apple, since we ask for the address)."""
        return self.name == "apple"


def _read_uris(text: object) -> object:
    if not isinstance(text, str):
        return text
    uris = text.split()
    for uri in uris:
        url = urlsplit(uri)
        plain = url.scheme == "https" or (url.scheme == "http" and notations.is_loopback(url.hostname or ""))
        usable = (
            bool(url.hostname) and url.username is None if plain else _PRIVATE_SCHEME.fullmatch(url.scheme)
        )
        if not usable or url.fragment or "#" in uri or not uri.isascii() or not uri.isprintable():
            raise ValueError(
                "has to list whole URIs such as https://app.example.org/login or org.example.app:/login, "
                "separated by white space, without a fragment"
            )
    return frozenset(uris)


class IdentitySettings(BaseModel):
    """The settings of identity providers, a part of `regsvc.config.settings.Settings`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    oidc_providers: tuple[ProviderSettings, ...] = Field((), description="")
    oidc_return_to: Annotated[frozenset[str], BeforeValidator(_read_uris)] = Field(
        frozenset(),
        description="whole URIs of other clients, such as apps, to which a login with a provider may return, separated "
        "by white space",
    )

    def find_provider(self, name: str) -> ProviderSettings | None:
        """Return the provider of a name, or None."""
        return next((provider for provider in self.oidc_providers if provider.name == name), None)

    def provider_secrets(self) -> Iterator[str]:
        """Yield the secrets of all providers."""
        for provider in self.oidc_providers:
            yield from filter(None, (provider.client_secret, provider.private_key))


def list_fields(environ: Iterable[str]) -> dict[str, bool]:
    """Return the fields of the providers that an environment names, each with whether it is secret."""
    names = {found[1].lower() for name in environ if name != _LIST and (found := _FAMILY.fullmatch(name))}
    return {f"oidc_{name}_{part}": part in SECRET_PARTS for name in names for part in PARTS}


def gather_providers(values: dict[str, str], problems: dict[str, str]) -> tuple[ProviderSettings, ...]:
    """Take the fields of providers out of values, and return the providers.

    Args:
        values: by field name.
        problems: filled with a line for each invalid or missing variable, by its name.
    """
    families: dict[str, dict[str, str]] = {}
    for name in [name for name in values if name.startswith("oidc_") and name != "oidc_return_to"]:
        _, provider, part = name.split("_", 2)
        families.setdefault(provider, {})[part] = values.pop(name).strip()
    return tuple(
        found for name, parts in sorted(families.items()) if (found := _read_provider(name, parts, problems))
    )


class _Family:
    """The variables of one provider while they are checked."""

    def __init__(self, name: str, parts: Mapping[str, str], problems: dict[str, str]) -> None:
        self.name = name
        self.parts = parts
        self._problems = problems
        self.sound = True

    def get(self, part: str) -> str:
        return self.parts.get(part, "")

    def complain(self, part: str, text: str) -> None:
        variable = f"REGSVC_OIDC_{self.name}_{part}".upper()
        self._problems.setdefault(variable, f"{variable} {text}")
        self.sound = False


def _read_provider(name: str, parts: Mapping[str, str], problems: dict[str, str]) -> ProviderSettings | None:
    family = _Family(name, parts, problems)
    issuer = family.get("issuer") or _find_issuer(name, family.get("tenant") or "common")
    _check_presence(family, issuer)
    _check_forms(family, issuer)
    key = family.get("private_key").replace("\\n", "\n")
    if key and name == "apple" and not _is_p256(key):
        family.complain(
            "private_key", "has to be a private key of P-256 in PEM, as Apple's .p8 files hold it"
        )
    label, domains = family.get("label") or LABELS.get(name, name.capitalize()), frozenset[str]()
    try:
        domains = notations.domains(family.get("domains"))
    except ValueError as error:
        family.complain("domains", str(error))
    try:
        notations.header_text(label)
    except ValueError as error:
        family.complain("label", str(error))
    if not family.sound or any(line.startswith(f"REGSVC_OIDC_{name.upper()}_") for line in problems):
        return None
    return ProviderSettings(
        name=name,
        issuer=issuer,
        client_id=family.get("client_id"),
        client_secret=family.get("client_secret"),
        team_id=family.get("team_id"),
        key_id=family.get("key_id"),
        private_key=key,
        label=label,
        domains=domains,
    )


def _check_presence(family: _Family, issuer: str) -> None:
    """Complain of variables that are missing, or are another provider's."""
    secret = ("team_id", "key_id", "private_key") if family.name == "apple" else ("client_secret",)
    for part in ("client_id", *secret, *(() if issuer else ("issuer",))):
        if not family.get(part):
            family.complain(part, f"is missing: {PARTS[part]}")
    for part, owner in _OWNERS.items():
        if family.get(part) and family.name != owner:
            family.complain(part, f"is a setting of {owner.upper()} alone")


def _check_forms(family: _Family, issuer: str) -> None:
    if issuer and not _is_issuer(issuer):
        family.complain(
            "issuer",
            "has to be an https:// URL without query and fragment, exactly as in the provider's tokens",
        )
    if not _TENANT.fullmatch(family.get("tenant") or "common"):
        family.complain("tenant", "is neither an id nor a domain")
    for part in ("client_id", "team_id", "key_id"):
        if not family.get(part).isprintable() or len(family.get(part)) > _LONGEST:
            family.complain(part, "has characters that no id has")


def _find_issuer(name: str, tenant: str) -> str:
    return f"{_MICROSOFT}/{tenant}/v2.0" if name == "microsoft" else _ISSUERS.get(name, "")


def _is_issuer(text: str) -> bool:
    """Return whether a text can be an issuer (OpenID Connect Discovery 1.0, 3); `http` is fine on this machine."""
    try:
        url = notations.split_url(text, ("https", "http"))
    except ValueError:
        return False
    secure = url.scheme == "https" or notations.is_loopback(url.hostname or "")
    return secure and not url.query and "?" not in text and url.username is None and len(text) <= _LONGEST


def _is_p256(pem: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - only where it is set
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
