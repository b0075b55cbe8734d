"""Every setting of the program: its name, its meaning, its check.

Names in the environment are those of the fields in capitals behind `REGSVC_`. A secret may also come from a
file named by `…_FILE`, the way container platforms mount them. A variable that is set and empty is not set.
"""

from __future__ import annotations

from email.headerregistry import Address
from functools import partial
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    SecretStr,
)

from regsvc.config import notations, urls
from regsvc.config.environment import variable
from regsvc.config.insecurities import KNOWN_PASSWORDS, Insecurity, Topic, find_insecurities
from regsvc.logs import LogFormat, LogLevel

Mode = Literal["dev", "serve", "check", "migrate", "operate"]
Role = Literal["all", "api", "worker"]


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


class Settings(BaseModel):
    """The settings of one process. What its mode does not need and nobody set is empty or None."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
    )

    database_url: Annotated[SecretStr, AfterValidator(urls.database_url)] = Field(
        SecretStr(""), description="PostgreSQL as libpq names it: a `postgresql://` URI or `key=value` pairs"
    )
    database_listen_url: Annotated[SecretStr, AfterValidator(urls.database_url)] | None = Field(
        None,
        description="the same server past a pooler such as PgBouncer, for LISTEN, which does not work through one; "
        "unset, `REGSVC_DATABASE_URL`",
    )
    database_prepare: _Switch = Field(
        default=True,
        description="`off`: statements are not prepared, for a pooler that lends a server for one transaction",
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
        description="RabbitMQ, `amqp://` or `amqps://`, several URLs of one cluster with white space between; unset, "
        "jobs travel through PostgreSQL alone",
    )
    smtp_url: Annotated[SecretStr, AfterValidator(urls.mail_url)] = Field(
        SecretStr(""),
        description="where mail goes: `smtp://host:25`, `smtp+starttls://user:password@host:587`, "
        "`smtps://user:password@host:465` or `maildir:PATH`; `?ehlo=NAME` behind the host is what EHLO says",
    )
    smtp_connect_seconds: _Seconds = Field(
        10, description="seconds to reach the mail server, TLS and greeting included"
    )
    smtp_command_seconds: _Seconds = Field(30, description="seconds it may take to answer a command")
    smtp_data_seconds: _Seconds = Field(60, description="seconds it may take to swallow one mail")
    smtp_accept_seconds: _Seconds = Field(
        120, description="seconds it may take to accept a mail after the final dot"
    )
    smtp_sessions: int = Field(4, ge=1, le=64, description="mails a process sends at the same time")
    mail_from: Annotated[Address, BeforeValidator(notations.mailbox)] = Field(
        Address(), description="sender of every mail: `address` or `Name <address>`"
    )
    public_url: _Origin = Field(
        "", description="where people reach this service, `https://host`; the only source of links in mails"
    )
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="what tokens, codes and keys derive from: 32 random bytes or more, "
        "such as `openssl rand -base64 48` prints",
    )
    secret_key_previous: SecretStr | None = Field(
        None, description="the key before that one, for rotation: it verifies and signs nothing"
    )
    http_host: _Hosts = Field(
        ("127.0.0.1",),
        description="addresses or names to listen on (commas between); `*` for every one of IPv4 and IPv6, "
        "`unix:/path` for a Unix socket",
    )
    http_port: int = Field(
        8080,
        ge=0,
        le=65_535,
        description="port to listen on; a worker answers only `/healthz`, `/readyz` and `/metrics` there. "
        "0: a worker listens nowhere, the others on a free port",
    )
    http_idle_seconds: _Seconds = Field(
        75,
        description="seconds that an idle connection is kept. A balancer in front has to give it up sooner (60 s is "
        "usual), or requests meet a closed one",
    )
    role: Annotated[Role, _Lower] = Field("all", description="what `serve` runs: `all`, `api` or `worker`")
    bcrypt_cost: int = Field(
        12, ge=10, le=15, description="cost of a password hash, 10 to 15; a step more doubles the time"
    )
    hashing_threads: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="threads that hash passwords; 0: as many as the process may use whole processors"
    )
    password_policy: Annotated[Literal["basic", "strict"], _Lower] = Field(
        "basic",
        description="`basic`: 8 to 128 characters, neither the address nor the name; "
        "`strict`: 15 or more, no common password, no word of the context",
    )
    confirm_requires_password: _Switch = Field(
        default=False, description="`on`: a link pressed elsewhere than at the sign-up asks for its password"
    )
    trusted_proxies: _Networks = Field(
        (), description="networks (CIDR, commas between) whose `X-Forwarded-For` is believed; none"
    )
    metrics_allow: _Networks = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="networks that may read `/metrics` and the details of `/readyz`; `none` for nobody",
    )
    allowed_origins: _Origins = Field(
        frozenset(),
        description="origins of other sites or apps whose pages may call the API (commas between), such as "
        "`https://app.example.org` or `capacitor://localhost`",
    )
    local_domains: _Domains = Field(
        frozenset(),
        description="mail domains that are no public names, such as `corp.local` or `intranet`, and are taken all the "
        "same (commas between; `*.corp.local` for those below it)",
    )
    log_format: Annotated[LogFormat, _Lower] | None = Field(
        None, description="`console` or `json`; unset, `console` on a terminal and `json` elsewhere"
    )
    log_level: Annotated[LogLevel, _Lower] = Field("info", description="`debug`, `info`, `warning`, `error`")
    rate_limits: _Switch = Field(
        default=True,
        description="`off` lifts `rate_limited`, `too_soon`, the waits of log-ins and the caps on websockets, for load "
        "tests; not the limits on size, header and connections, nor the tries of a code. `dev` spares this machine",
    )
    allow_insecure: _Topics = Field(
        frozenset(),
        description="`off`; `on` lets `serve` start with what belongs on a laptop, and say so loudly. "
        f"Words with commas between allow that alone: {', '.join(f'`{topic}`' for topic in Topic)}",
    )
    accept_foreign_mail: _Switch = Field(
        default=False, description="`on`: a worker also takes the messages of the system this one replaces"
    )
    foreign_amqp_url: _AmqpUrl | None = Field(None, description="RabbitMQ of that system")
    foreign_queue: str | None = Field(
        None, max_length=255, description="queue of that system, taken as found"
    )
    brand_name: Annotated[_HeaderText, Field(min_length=1)] = Field(
        "regsvc", description="the service's name in mails and on pages"
    )
    brand_color: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] = Field(
        "#2457c5", description="colour of buttons in mails and on pages, `#rrggbb`"
    )
    brand_logo: Annotated[str, Field(pattern="^https?://[^\\s\"'<>]+$", max_length=2000)] | None = Field(
        None, description="URL of a picture shown on top of mails and pages"
    )
    templates: DirectoryPath | None = Field(
        None, description="folder whose templates stand in for the built-in ones of the same name"
    )

    @property
    def origins(self) -> frozenset[str]:
        """Origins whose pages may call the API: those allowed, and always the service's own."""
        return self.allowed_origins | {self.public_url}

    @property
    def listen_conninfo(self) -> str:
        """What connections that LISTEN connect by."""
        return (self.database_listen_url or self.database_url).get_secret_value()

    def secret_values(self) -> frozenset[str]:
        """Every secret these settings hold, passwords within URLs on their own too: for logs to mask.

        A password that everybody knows is left out: it is an ordinary word, and masking it would spoil the warning.
        """
        values: set[str] = set()
        for field in SECRETS:
            secret: SecretStr | None = getattr(self, field)
            if secret is not None:
                values |= {secret.get_secret_value(), *notations.passwords(secret.get_secret_value())}
        return frozenset(values - {""} - KNOWN_PASSWORDS)

    def insecurities(self) -> list[str]:
        """Return what these settings should not be exposed to the world with, one line each."""
        return [found.line for found in self._find_insecurities()]

    def refused_insecurities(self) -> list[str]:
        """Return those that are not allowed, each with the word that would allow it."""
        return [
            f"{found.line} (REGSVC_ALLOW_INSECURE={found.topic} takes it anyway)"
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
                smtp_url=self.smtp_url.get_secret_value(),
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
"""Fields that also come from files and are never shown."""


def describe() -> str:
    """The settings as a table in Markdown, for `docs/settings.md`."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for field, info in Settings.model_fields.items():
        file = f" (or `{variable(field)}_FILE`)" if field in SECRETS else ""
        lines.append(f"| `{variable(field)}`{file} | {_shown(info.default)} | {info.description} |")
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    match default:
        case bool():
            return "`on`" if default else "`off`"
        case tuple() | frozenset():
            default = ",".join(map(str, default))
        case SecretStr() | Address() | None:
            default = ""
    return f"`{default}`" if default not in {"", None} else ""
