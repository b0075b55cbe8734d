"""All settings of the program: names, meanings and validation.

Their environment variables are the field names in capitals after `REGSVC_`. A secret may also come from a file named by
`…_FILE`, the way container platforms mount them. An empty variable counts as not set.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.headerregistry import Address
from functools import partial
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    DirectoryPath,
    Field,
    SecretStr,
)

from regsvc.config import notations, urls
from regsvc.config.environment import variable
from regsvc.config.events.event_settings import EventSettings
from regsvc.config.feedback_settings import FeedbackSettings
from regsvc.config.identities.identity_settings import PARTS, SECRET_PARTS, IdentitySettings
from regsvc.config.insecurities import KNOWN_PASSWORDS, Insecurity, Topic, find_insecurities
from regsvc.config.mail_settings import MailSettings
from regsvc.config.mail_url import read_mail_urls
from regsvc.config.signup.signup_settings import SignupSettings
from regsvc.config.traces.trace_settings import TraceSettings
from regsvc.logs import LogFormat, LogLevel

Mode = Literal["dev", "serve", "check", "migrate", "operate"]
Role = Literal["all", "api", "worker"]
TokenAlgorithm = Literal["EdDSA", "ES256"]


_Lower = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
_Origin = Annotated[str, AfterValidator(notations.origin)]
_Origins = Annotated[frozenset[str], BeforeValidator(notations.origins)]
_Domains = Annotated[frozenset[str], BeforeValidator(notations.domains)]
_Networks = Annotated[notations.Networks, BeforeValidator(notations.networks)]
_AmqpUrl = Annotated[SecretStr, AfterValidator(urls.broker_urls)]
_HeaderText = Annotated[str, AfterValidator(notations.header_text)]
_Topics = Annotated[frozenset[Topic], BeforeValidator(partial(notations.choices, tuple(Topic)))]
_Hosts = Annotated[tuple[str, ...], BeforeValidator(notations.hosts)]
_Switch = Annotated[bool, BeforeValidator(notations.switch)]
_Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(
    TraceSettings, EventSettings, IdentitySettings, SignupSettings, FeedbackSettings, MailSettings
):
    """The settings of one process. Those that are not set and not needed in its mode are empty or None."""

    database_url: Annotated[SecretStr, AfterValidator(urls.database_url)] = Field(
        SecretStr(""),
        description="PostgreSQL, as a libpq connection string: a `postgresql://` URI or `key=value` pairs",
    )
    database_listen_url: Annotated[SecretStr, AfterValidator(urls.database_url)] | None = Field(
        None,
        description="the same server without a pooler such as PgBouncer, for LISTEN, which does not work through one; "
        "unset, `REGSVC_DATABASE_URL`",
    )
    database_prepare: _Switch = Field(
        default=True,
        description="`off`: no prepared statements, for a pooler in transaction mode",
    )
    database_pool_http: int = Field(8, ge=1, le=200, description="connections to PostgreSQL for requests")
    database_pool_work: int = Field(
        4, ge=2, le=200, description="connections to PostgreSQL for everything else"
    )
    database_pool_life: float = Field(
        3600, ge=10, le=604_800, description="seconds after which an idle connection is replaced"
    )
    amqp_url: _AmqpUrl | None = Field(
        None,
        description="RabbitMQ, `amqp://` or `amqps://`, several URLs of one cluster separated by white space; unset, "
        "jobs go through PostgreSQL only",
    )
    public_url: _Origin = Field(
        "", description="public URL of this service, `https://host`; all links in mails begin with it"
    )
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="key from which tokens, codes and keys are derived: 32 random bytes or more, "
        "such as `openssl rand -base64 48` prints",
    )
    secret_key_previous: SecretStr | None = Field(
        None, description="the previous key, for rotation: it verifies but does not sign"
    )
    token_alg: TokenAlgorithm = Field(
        "EdDSA",
        description="algorithm that signs access tokens: `EdDSA`, or `ES256` for services whose libraries lack it. "
        "After a change the next key is published at the start and signs twelve minutes later",
    )
    http_host: _Hosts = Field(
        ("127.0.0.1",),
        description="addresses or names to listen on, separated by commas; `*` for all of IPv4 and IPv6, "
        "`unix:/path` for a Unix socket",
    )
    http_port: int = Field(
        8080,
        ge=0,
        le=65_535,
        description="port to listen on; a worker serves only `/healthz`, `/readyz` and `/metrics` there. "
        "0: a worker does not listen, the others use a free port",
    )
    http_idle_seconds: _Seconds = Field(
        75,
        description="seconds that an idle connection is kept. A load balancer in front must close it sooner (60 s is "
        "usual), or requests meet a closed one",
    )
    role: Annotated[Role, _Lower] = Field("all", description="what `serve` runs: `all`, `api` or `worker`")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that `serve` runs, on the same addresses and restarted one by one; each has its own "
        "connections to PostgreSQL and its share of the threads that hash passwords",
    )
    bcrypt_cost: int = Field(
        12, ge=10, le=15, description="cost of a password hash, 10 to 15; each step doubles the time"
    )
    hashing_threads: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="threads that hash passwords; 0: one per whole processor available to the process"
    )
    password_policy: Annotated[Literal["basic", "strict"], _Lower] = Field(
        "basic",
        description="`basic`: 8 to 128 characters, neither the address nor the name; "
        "`strict`: 15 or more, no common password, no word of the user's address, name or this service",
    )
    confirm_requires_password: _Switch = Field(
        default=False,
        description="`on`: a link that is opened in another browser than the one that signed up asks for the password",
    )
    trusted_proxies: _Networks = Field(
        (), description="networks (CIDR, separated by commas) whose `X-Forwarded-For` is trusted; none"
    )
    metrics_allow: _Networks = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="networks that may read `/metrics` and the details of `/readyz`; `none` for no network",
    )
    allowed_origins: _Origins = Field(
        frozenset(),
        description="origins of other sites or apps whose pages may call the API, separated by commas, such as "
        "`https://app.example.org` or `capacitor://localhost`",
    )
    local_domains: _Domains = Field(
        frozenset(),
        description="mail domains to accept although they are not public, such as `corp.local` or `intranet`, "
        "separated by commas; `*.corp.local` for its subdomains",
    )
    log_format: Annotated[LogFormat, _Lower] | None = Field(
        None, description="`console` or `json`; unset, `console` on a terminal and `json` elsewhere"
    )
    log_level: Annotated[LogLevel, _Lower] = Field("info", description="`debug`, `info`, `warning`, `error`")
    rate_limits: _Switch = Field(
        default=True,
        description="`off` disables `rate_limited`, `too_soon`, the delays of logins and the caps on websockets, for "
        "load tests; not the limits on size, headers and connections, nor on attempts of a code. `dev` exempts this "
        "machine",
    )
    allow_insecure: _Topics = Field(
        frozenset(),
        description="`off`; `on` lets `serve` start with insecure settings, fit for a laptop, and log warnings. "
        f"Words separated by commas allow only those: {', '.join(f'`{topic}`' for topic in Topic)}",
    )
    accept_foreign_mail: _Switch = Field(
        default=False, description="`on`: a worker also accepts the messages of the legacy system"
    )
    foreign_amqp_url: _AmqpUrl | None = Field(None, description="RabbitMQ of the legacy system")
    foreign_queue: str | None = Field(
        None, max_length=255, description="queue of the legacy system, used as declared there"
    )
    brand_name: Annotated[_HeaderText, Field(min_length=1)] = Field(
        "regsvc", description="the service's name in mails and on pages"
    )
    brand_color: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] = Field(
        "#2457c5", description="colour of buttons in mails and on pages, `#rrggbb`"
    )
    brand_logo: Annotated[str, Field(pattern="^https?://[^\\s\"'<>]+$", max_length=2000)] | None = Field(
        None, description="URL of an image shown at the top of mails and pages"
    )
    templates: DirectoryPath | None = Field(
        None, description="folder of templates that replace the built-in ones of the same name"
    )

    @property
    def origins(self) -> frozenset[str]:
        """Origins whose pages may call the API, always including the service's own."""
        return self.allowed_origins | {self.public_url}

    @property
    def listen_conninfo(self) -> str:
        """The conninfo of connections that LISTEN."""
        return (self.database_listen_url or self.database_url).get_secret_value()

    def secret_values(self) -> frozenset[str]:
        """All secrets in these settings, including passwords within URLs: for logs to mask.

        A well-known password is left out: it is an ordinary word, and masking it would garble the warning about it.
        """
        values: set[str] = set()
        for field in SECRETS:
            secret: SecretStr | None = getattr(self, field)
            if secret is not None:
                values |= {secret.get_secret_value(), *notations.passwords(secret.get_secret_value())}
        return frozenset((values | {*self.provider_secrets()}) - {""} - KNOWN_PASSWORDS)

    @property
    def uses_oauth(self) -> bool:
        """Whether a way out or the bounce mailbox logs in with an access token."""
        places = [route.place for route in read_mail_urls(self.ways_out)] if self.ways_out else []
        return any(getattr(place, "oauth", False) for place in (*places, self.bounce_mailbox))

    def insecurities(self) -> list[str]:
        """Return what is insecure about these settings, one line each."""
        return [found.line for found in self._find_insecurities()]

    def refused_insecurities(self) -> list[str]:
        """Return what is insecure and not allowed, each with the word that would allow it."""
        return [
            f"{found.line} (REGSVC_ALLOW_INSECURE={found.topic} allows it)"
            for found in self._find_insecurities()
            if found.topic not in self.allow_insecure
        ]

    def _find_insecurities(self) -> list[Insecurity]:
        previous, amqp, foreign, listen = (
            secret.get_secret_value() if secret is not None else ""
            for secret in (
                self.secret_key_previous,
                self.amqp_url,
                self.foreign_amqp_url,
                self.database_listen_url,
            )
        )
        mail = "" if self.mail_url is None else self.mail_url.get_secret_value()
        return list(
            find_insecurities(
                keys={
                    "REGSVC_SECRET_KEY": self.secret_key.get_secret_value(),
                    "REGSVC_SECRET_KEY_PREVIOUS": previous,
                },
                database_urls={
                    "REGSVC_DATABASE_URL": self.database_url.get_secret_value(),
                    "REGSVC_DATABASE_LISTEN_URL": listen,
                },
                broker_urls={"REGSVC_AMQP_URL": amqp, "REGSVC_FOREIGN_AMQP_URL": foreign},
                mail_urls={"REGSVC_SMTP_URL": self.smtp_url.get_secret_value(), "REGSVC_MAIL_URL": mail},
                public_url=self.public_url,
                networks={
                    "REGSVC_TRUSTED_PROXIES": self.trusted_proxies,
                    "REGSVC_METRICS_ALLOW": self.metrics_allow,
                },
                rate_limits=self.rate_limits,
            )
        )


SECRETS = frozenset(
    field for field, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation)
)
"""Fields that can also be set from files, and are never shown."""


def describe() -> str:
    """Return the settings as a Markdown table, for `docs/settings.md`."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for field, info in Settings.model_fields.items():
        if field == "oidc_providers":
            lines += _describe_provider()
            continue
        file = f" (or `{variable(field)}_FILE`)" if field in SECRETS else ""
        lines.append(f"| `{variable(field)}`{file} | {_shown(info.default)} | {info.description} |")
    return "\n".join(lines) + "\n"


def _describe_provider() -> Iterator[str]:
    for part, description in PARTS.items():
        name = f"REGSVC_OIDC_<NAME>_{part.upper()}"
        file = f" (or `{name}_FILE`)" if part in SECRET_PARTS else ""
        yield f"| `{name}`{file} |  | {description} |"


def _shown(default: object) -> str:
    match default:
        case bool():
            return "`on`" if default else "`off`"
        case tuple() | frozenset():
            default = ",".join(map(str, default))
        case SecretStr() | Address() | None:
            default = ""
    return f"`{default}`" if default not in {"", None} else ""
