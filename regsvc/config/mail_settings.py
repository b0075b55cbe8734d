"""The settings of mail: its ways out, its sender and its signature."""

from __future__ import annotations

from email.headerregistry import Address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from regsvc.config import notations, urls

Seconds = Annotated[float, Field(gt=0, le=3600)]


class MailSettings(BaseModel):
    """The settings of mail, a part of `regsvc.config.settings.Settings`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
    )

    mail_url: Annotated[SecretStr, AfterValidator(urls.mail_urls)] | None = Field(
        None,
        description="ways out for mail, in order of preference, separated by white space: mail servers as in "
        "`REGSVC_SMTP_URL`, and HTTP APIs `resend://KEY@`, `postmark://TOKEN@`, `sendgrid://KEY@`, "
        "`mailgun://KEY@DOMAIN?region=eu`, `ses://KEY_ID:SECRET@REGION`; see [ways out](ways-out.md)",
    )
    smtp_url: Annotated[SecretStr, AfterValidator(urls.mail_urls)] = Field(
        SecretStr(""),
        description="mail server: `smtp://host:25`, `smtp+starttls://user:password@host:587`, "
        "`smtps://user:password@host:465` or `maildir:PATH`; `?ehlo=NAME` after the host sets the name in EHLO, "
        "`?cafile=PATH` trusts the authorities of a file instead of the system's, `?auth=xoauth2` logs in with an "
        "access token. Another name for `REGSVC_MAIL_URL`",
    )
    smtp_connect_seconds: Seconds = Field(
        10, description="seconds to connect to the mail server, including TLS and its greeting"
    )
    smtp_command_seconds: Seconds = Field(
        30, description="seconds the mail server may take to answer a command"
    )
    smtp_data_seconds: Seconds = Field(60, description="seconds the mail server may take to receive one mail")
    smtp_accept_seconds: Seconds = Field(
        120, description="seconds the mail server may take to accept a mail after the final dot"
    )
    smtp_sessions: int = Field(4, ge=1, le=64, description="number of mails a process sends at the same time")
    mail_from: Annotated[Address, BeforeValidator(notations.mailbox)] = Field(
        Address(), description="sender of every mail: `address` or `Name <address>`"
    )
    dkim_key: SecretStr | None = Field(
        None,
        description="one or two private keys in PEM, RSA of 2048 bits or more and Ed25519, that sign every mail by "
        "DKIM for the domain of `REGSVC_MAIL_FROM`",
    )
    dkim_selector: str = Field(
        "",
        description="names of the DKIM keys in the DNS, as many as there are keys, separated by white space: `name` is "
        "published at `name._domainkey.DOMAIN`",
    )
    smtp_oauth_token_url: str = Field(
        "",
        pattern="^(https?://[^\\s\"'<>]+)?$",
        description="where `?auth=xoauth2` gets its access tokens (RFC 6749, 4.4)",
    )
    smtp_oauth_client_id: str = Field("", description="client id for the access tokens of SMTP")
    smtp_oauth_client_secret: SecretStr | None = Field(
        None, description="client secret for the access tokens of SMTP"
    )
    smtp_oauth_scope: str = Field(
        "",
        description="scope of the access tokens of SMTP, such as `https://outlook.office365.com/.default`",
    )

    dns_server: Annotated[tuple[tuple[str, int], ...], BeforeValidator(notations.dns_servers)] = Field(
        (),
        description="DNS servers for advice on addresses and `regsvc check --mail`, addresses separated by white space "
        "such as `192.0.2.53` or `[2001:db8::53]:5353`; unset, those of the system",
    )

    @property
    def ways_out(self) -> str:
        """The URLs of the ways out for mail, separated by white space."""
        return (self.mail_url or self.smtp_url).get_secret_value()
