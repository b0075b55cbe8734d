"""Settings are read once, checked together, and never shown."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from regsvc.config.insecurities import LAPTOP_SECRET_KEY
from regsvc.config.loading import list_service_links, load
from regsvc.config.settings import SECRETS, Settings, describe
from regsvc.errors import ConfigurationError
from regsvc.logs import configure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsvc.config.settings import Mode, Role

KEY = "mJ3v0zqkT7yW5aXnC1rPfEoLhU8dSgBt"
GOOD = {
    "REGSVC_DATABASE_URL": "postgresql://app:correct-horse@db.example.org/users?sslmode=verify-full",
    "REGSVC_SECRET_KEY": KEY,
    "REGSVC_PUBLIC_URL": "https://accounts.example.org",
    "REGSVC_SMTP_URL": "smtp+starttls://app:correct-horse@mail.example.org:587",
    "REGSVC_MAIL_FROM": "Example <no-reply@example.org>",
}


def refusal(environ: Mapping[str, str], *, mode: Mode = "serve", role: Role | None = None) -> list[str]:
    """The problems that loading names, one a line."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ, mode=mode, role=role)
    heading, *lines = str(caught.value).splitlines()
    assert heading == "The configuration is invalid:"
    return [line.strip() for line in lines]


def serve(**changes: str) -> Settings:
    """Settings of `serve` with a few changes, named without their prefix."""
    return load(GOOD | {f"REGSVC_{name}": value for name, value in changes.items()}, mode="serve")


def refused(**changes: str) -> str:
    """The one problem that such changes make."""
    (line,) = refusal(GOOD | {f"REGSVC_{name}": value for name, value in changes.items()})
    return line


def test_good_settings_load_and_cannot_be_changed() -> None:
    settings = load(GOOD | {"PATH": "/bin"}, mode="serve")
    assert settings.http_port == 8080
    assert str(settings.mail_from) == "Example <no-reply@example.org>"
    assert settings.mail_from.domain == "example.org"
    assert settings.insecurities() == []
    with pytest.raises(ValidationError):
        settings.http_port = 1


def test_every_problem_is_named_at_once() -> None:
    lines = refusal(
        {
            "REGSVC_HTPP_PORT": "80",
            "REGSVC_HTTP_PORT": "eighty",
            "REGSVC_SECRET_KEY": "short",
            "REGSVC_AMQP_URL": "amqps://guest:guest@rabbitmq/",
            "REGSVC_ROLE": "boss",
            "REGSVC_SMTP_URL_FILE": "/nowhere/at/all",
        }
    )
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "REGSVC_HTPP_PORT",
        "REGSVC_SMTP_URL_FILE",
        "REGSVC_HTTP_PORT",
        "REGSVC_ROLE",
        "REGSVC_DATABASE_URL",
        "REGSVC_PUBLIC_URL",
        "REGSVC_MAIL_FROM",
        "REGSVC_SECRET_KEY",
        "REGSVC_AMQP_URL",
    ]
    assert lines[0] == "REGSVC_HTPP_PORT is not a setting; did you mean REGSVC_HTTP_PORT?"


@pytest.mark.parametrize(
    ("mode", "role", "needed"),
    [
        ("serve", "api", {"DATABASE_URL", "SECRET_KEY", "PUBLIC_URL"}),
        ("serve", "worker", {"DATABASE_URL", "SECRET_KEY", "PUBLIC_URL", "SMTP_URL", "MAIL_FROM"}),
        ("serve", "all", {"DATABASE_URL", "SECRET_KEY", "PUBLIC_URL", "SMTP_URL", "MAIL_FROM"}),
        ("check", "api", {"DATABASE_URL", "SECRET_KEY", "PUBLIC_URL"}),
        ("migrate", None, {"DATABASE_URL"}),
        ("operate", None, {"DATABASE_URL", "SECRET_KEY"}),
        ("dev", None, {"SECRET_KEY", "SMTP_URL"}),
    ],
)
def test_each_mode_and_role_needs_its_own_settings_and_no_others(
    mode: Mode, role: Role, needed: set[str]
) -> None:
    assert {line.split()[0].removeprefix("REGSVC_") for line in refusal({}, mode=mode, role=role)} == needed
    load({f"REGSVC_{name}": GOOD[f"REGSVC_{name}"] for name in needed}, mode=mode, role=role)


def test_the_role_of_the_command_line_wins() -> None:
    assert load(GOOD | {"REGSVC_ROLE": "api"}, mode="serve", role="worker").role == "worker"
    assert load(GOOD | {"REGSVC_ROLE": "API"}, mode="serve").role == "api"


def test_migrate_ignores_settings_that_are_not_its_business() -> None:
    load(
        {
            "REGSVC_DATABASE_URL": GOOD["REGSVC_DATABASE_URL"],
            "REGSVC_SECRET_KEY_FILE": "/not/mounted/here",
            "REGSVC_PUBLIC_URL": "nonsense",
        },
        mode="migrate",
    )
    (line,) = refusal({**GOOD, "REGSVC_DATABASE": "x"}, mode="migrate")
    assert line == "REGSVC_DATABASE is not a setting; did you mean REGSVC_DATABASE_URL?"


def test_dev_fills_in_what_a_newcomer_has_not_set_and_takes_what_is_insecure() -> None:
    defaults = {"secret_key": "short", "smtp_url": "maildir:/tmp/mail"}
    settings = load({"REGSVC_HTTP_PORT": "9000"}, mode="dev", defaults=defaults)
    assert settings.public_url == "http://localhost:9000"
    assert str(settings.mail_from) == "regsvc <no-reply@localhost>"
    assert settings.insecurities() == ["REGSVC_SECRET_KEY is shorter than 32 bytes"]
    own = load({"REGSVC_SMTP_URL": "smtp://localhost:2525"}, mode="dev", defaults=defaults)
    assert own.smtp_url.get_secret_value() == "smtp://localhost:2525"


def test_an_empty_variable_is_not_set() -> None:
    assert serve(AMQP_URL="", AMQP_URL_FILE="", HTTP_PORT="").amqp_url is None
    assert "REGSVC_SECRET_KEY is missing" in refused(SECRET_KEY="")


def test_names_of_tests_and_of_watch_are_left_alone() -> None:
    serve(TEST_CHROMIUM="/usr/bin/chromium", HANDLE="abc")


SHAPED = {  # secrets whose form is checked
    "feedback_imap_url": "imaps://bounces:correct-horse@mail.example.org/INBOX",
    "feedback_resend": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "hook_before_signup_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "feedback_sendgrid": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF"
    "9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
}


@pytest.mark.parametrize("field", sorted(SECRETS))
def test_every_secret_may_come_from_a_file(field: str, tmp_path: Path) -> None:
    name = f"REGSVC_{field.upper()}"
    example = f"{KEY}-previous" if "key" in field else "amqps://app:correct-horse@rabbitmq/"
    example = SHAPED.get(field, example)
    more = {}
    if field == "mail_url":
        example = "resend://canary@ smtps://app:correct-horse@mail.example.org"
        more = {"REGSVC_SMTP_URL": ""}
    if field == "dkim_key":
        key = Ed25519PrivateKey.generate()
        example = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode().rstrip("\n")
        more = {"REGSVC_DKIM_SELECTOR": "mail"}
    value = GOOD.get(name, GOOD["REGSVC_DATABASE_URL"] if "database" in field else example)
    file = tmp_path / "secret"
    file.write_text(f"{value}\n")
    environ = {key: text for key, text in GOOD.items() if key != name} | {f"{name}_FILE": str(file)} | more
    assert getattr(load(environ, mode="serve"), field).get_secret_value() == value
    (line,) = refusal(environ | {name: value})
    assert line == f"{name}_FILE and {name} are both set; remove one"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 100_000, None])
def test_a_secret_file_that_holds_no_secret_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    environ = {name: value for name, value in GOOD.items() if name != "REGSVC_SECRET_KEY"}
    (line,) = refusal(environ | {"REGSVC_SECRET_KEY_FILE": str(file)})
    assert line.startswith("REGSVC_SECRET_KEY_FILE: the file is not readable (")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PUBLIC_URL", "https://example.org/accounts", "may only contain a scheme, a host and a port"),
        ("PUBLIC_URL", "https://user@example.org", "may only contain a scheme, a host and a port"),
        ("PUBLIC_URL", "https://example.org?x", "may only contain a scheme, a host and a port"),
        ("PUBLIC_URL", "ftp://example.org", "must begin with http: or https:"),
        ("PUBLIC_URL", "https://", "has no host"),
        ("PUBLIC_URL", "https://exämple.org", "has a host with characters other than a-z 0-9 . - "),
        ("PUBLIC_URL", "https://example.org:http", "is not a URL"),
        ("MAIL_FROM", "Example <no-reply@example.org", "must have the form"),
        ("MAIL_FROM", "no-reply", "contains no plain ASCII address"),
        ("MAIL_FROM", "a@b.c, d@e.f", "contains no plain ASCII address"),
        ("MAIL_FROM", "Example\r\nBcc: all@example.org <a@b.c>", "must not contain control characters"),
        ("MAIL_FROM", "=?utf-8?q?=0D=0ABcc?= <a@b.c>", "must not contain control characters or =?"),
        ("MAIL_FROM", "=?utf-8?q?x?=@b.c", "contains no plain ASCII address"),
        ("MAIL_FROM", "a\u2028b <a@b.c>", "must not contain control characters"),
        ("BRAND_NAME", "=?utf-8?q?x?=", "must not contain control characters or =?"),
        ("SMTP_URL", "smtp://user@example.org", "has a user without a password"),
        ("SMTP_URL", "smtp+starttls://u:pa/ss@example.org", "is not a URL"),
        ("SMTP_URL", "smtp+starttls://u:pa#ss@example.org", "is not a URL"),
        (
            "SMTP_URL",
            "smtps://u:pass@example.org?verify=no",
            "has an unknown option verify; known are ehlo, cafile",
        ),
        ("SMTP_URL", "smtps://u:pa ss@example.org", "is not a URL"),
        ("SMTP_URL", "smtps://u:pa\nss@example.org", "is not a URL"),
        ("SMTP_URL", "smtps://example.org:0", "is not a URL"),
        ("SMTP_URL", "gmail", "must begin with smtp:"),
        ("SMTP_URL", "maildir:", "names no folder"),
        ("SMTP_URL", "smtp://h!st", "has a host with characters other than"),
        ("SMTP_URL", "smtp://bücher.example", "has a host with characters other than"),
        ("SMTP_URL", "smtps://u:p%0Aq@example.org", "has a control character"),
        ("SMTP_URL", "smtps://u:p%FFq@example.org", "has a user or password that is not valid UTF-8"),
        ("SMTP_URL", "smtp://example.org?ehlo=a/b", "has an invalid ehlo"),
        (
            "SMTP_URL",
            "smtps://example.org?cafile=/no/such.pem",
            "has a cafile /no/such.pem that cannot be used: No",
        ),
        ("SMTP_URL", "smtps://example.org?cafile=/dev/null", "has a cafile /dev/null that cannot be used"),
        ("SMTP_URL", "smtp://example.org?cafile=/no/such.pem", "has a cafile but begins with smtp:"),
        ("AMQP_URL", "http://rabbitmq/", "must begin with amqp: or amqps:"),
        ("AMQP_URL", "amqp://h!st/", "has a host with characters other than"),
        ("AMQP_URL", "amqp://a:b%0Ac@rabbitmq/", "has a control character"),
        ("AMQP_URL", "amqp://rabbitmq/a/b", "has a / in its virtual host"),
        (
            "AMQP_URL",
            f"amqp://a:{KEY}@one/;amqp://a:{KEY}@two/",
            "contains several URLs; separate them by white space",
        ),
        ("AMQP_URL", f"amqp://a:{KEY}@one/x amqp://a:{KEY}@two/y", "has several virtual hosts"),
        ("AMQP_URL", f"amqp://a:{KEY} b@one/", "is neither a URL nor several"),
        (
            "AMQP_URL",
            f"amqps://a:{KEY}@one/?verify=none",
            "has an unknown option verify; known are auth, cafile",
        ),
        (
            "AMQP_URL",
            f"amqps://a:{KEY}@one/?cafile=/no/such.pem",
            "has an option cafile /no/such.pem that cannot",
        ),
        ("AMQP_URL", f"amqp://a:{KEY}@one/?cafile=/no/such.pem", "has TLS options but begins with amqp:"),
        ("AMQP_URL", f"amqps://a:{KEY}@one/?auth=ldap", "has an invalid option auth"),
        ("DATABASE_URL", "postgresql://a@h!st/b", "has a host with characters other than"),
        ("DATABASE_URL", "users_db", "is neither a postgresql:// URI nor libpq's key=value pairs"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "is not a list of networks"),
        ("ALLOWED_ORIGINS", "*", "must begin with http: or https:"),
        ("ALLOWED_ORIGINS", "https://a.example, null", "must begin with http: or https:"),
        ("ALLOWED_ORIGINS", "file:///x", "must begin with http: or https:"),
        ("ALLOWED_ORIGINS", "capacitor://", "must begin with http: or https:"),
        ("HTTP_HOST", "http://x", "is not a list of addresses or names"),
        ("HTTP_HOST", "127.0.0.1:80", "is not a list of addresses or names"),
        ("HTTP_HOST", "unix:socket", "has a Unix socket without an absolute path"),
        ("HTTP_HOST", ",", "contains no address to listen on"),
        ("HTTP_IDLE_SECONDS", "0", ": Input should be greater than 0"),
        ("RATE_LIMITS", "maybe", "must be on or off"),
        ("BCRYPT_COST", "9", ": Input should be greater than or equal to 10"),
        ("BCRYPT_COST", "16", ": Input should be less than or equal to 15"),
        ("HTTP_PORT", "65536", ": Input should be less than or equal to 65535"),
        ("SMTP_DATA_SECONDS", "inf", ": Input should be"),
        ("SMTP_DATA_SECONDS", "0", ": Input should be greater than 0"),
        ("BRAND_COLOR", "red", ": String should match pattern"),
        ("BRAND_LOGO", "javascript:alert(1)", ": String should match pattern"),
        ("TEMPLATES", "/nowhere/at/all", ": Path does not point to a directory"),
        ("SECRET_KEY_PREVIOUS", KEY, "equals REGSVC_SECRET_KEY"),
        ("FOREIGN_QUEUE", "\udc80", ": Input should be a valid string"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(name: str, value: str, problem: str) -> None:
    assert f"REGSVC_{name}{'' if problem[0] == ':' else ' '}{problem}" in refused(**{name: value})


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://Accounts.Example.org/", "https://accounts.example.org"),
        ("HTTPS://example.org:443", "https://example.org"),
        ("https://example.org:8443/", "https://example.org:8443"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_the_public_url_is_an_origin_in_its_normal_form(given: str, normal: str) -> None:
    settings = serve(PUBLIC_URL=given, ALLOWED_ORIGINS="https://App.example.org:443")
    assert settings.public_url == normal
    assert settings.origins == {normal, "https://app.example.org"}


def test_foreign_mail_needs_to_know_where_from_and_never_takes_our_own() -> None:
    lines = refusal(GOOD | {"REGSVC_ACCEPT_FOREIGN_MAIL": "on"})
    assert [line.split()[0] for line in lines] == ["REGSVC_FOREIGN_AMQP_URL", "REGSVC_FOREIGN_QUEUE"]
    lines = refusal({"REGSVC_ACCEPT_FOREIGN_MAIL": "on"}, mode="dev")
    assert {"REGSVC_FOREIGN_AMQP_URL", "REGSVC_FOREIGN_QUEUE"} <= {line.split()[0] for line in lines}
    url = "amqps://app:correct-horse@rabbitmq/"
    foreign = {"ACCEPT_FOREIGN_MAIL": "on", "FOREIGN_AMQP_URL": url, "FOREIGN_QUEUE": "email_confirm"}
    serve(**foreign)
    assert refused(**foreign, AMQP_URL=url) == "REGSVC_FOREIGN_QUEUE is regsvc's own queue"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("SECRET_KEY", LAPTOP_SECRET_KEY, "is the example key"),
        ("SECRET_KEY", "mJ3v0zqkT7yW5aXn", "is shorter than 32 bytes"),
        ("SECRET_KEY", "a" * 32, "is not random"),
        ("SECRET_KEY", "0123456789abcdef" * 2, "is not random"),
        ("SECRET_KEY", "abcdefghijklmnopqrstuvwxyz0123456789", "is not random"),
        ("SECRET_KEY", "please-change-me-before-you-deploy-this", "contains a word from an example"),
        ("SECRET_KEY_PREVIOUS", "short", "is shorter than 32 bytes"),
        ("DATABASE_URL", "postgresql://admin:password@db/users_db", "has a well-known password"),
        ("DATABASE_URL", "host=10.0.0.7 user=app password=app", "has a well-known password"),
        ("AMQP_URL", "amqp://guest:guest@rabbitmq:5672/", "logs in as guest"),
        ("AMQP_URL", "amqp://rabbitmq/", "logs in as guest"),
        ("AMQP_URL", f"amqps://app:{KEY}@rabbitmq/?no_verify_ssl=1", "has no_verify_ssl"),
        ("FOREIGN_AMQP_URL", "amqp://guest:guest@old/", "logs in as guest"),
        ("DATABASE_URL", f"postgresql://app:{KEY}@db/users", "may connect unencrypted"),
        ("DATABASE_URL", f"host=db password={KEY} sslmode=prefer", "may connect unencrypted"),
        ("DATABASE_URL", f"host=db password={KEY} sslmode=allow", "may connect unencrypted"),
        ("DATABASE_URL", f"host=db password={KEY} sslmode=disable", "may connect unencrypted"),
        ("DATABASE_URL", f"host=localhost,10.0.0.7 password={KEY}", "may connect unencrypted"),
        ("DATABASE_URL", f"host=localhost hostaddr=10.0.0.7 password={KEY}", "may connect unencrypted"),
        ("DATABASE_URL", "service=production", "may connect unencrypted"),
        ("AMQP_URL", f"amqp://app:{KEY}@rabbitmq/", "sends its password unencrypted"),
        ("AMQP_URL", f"amqps://app:{KEY}@one/ amqp://app:{KEY}@two/", "sends its password unencrypted"),
        ("FOREIGN_AMQP_URL", f"amqp://app:{KEY}@old/", "sends its password unencrypted"),
        ("SMTP_URL", f"smtp://app:{KEY}@mail.example.org", "sends its password unencrypted"),
        ("SMTP_URL", "smtp://mail.example.org", "sends links and codes unencrypted"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0", "includes 0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0", "includes ::/0"),
        ("TRUSTED_PROXIES", "0.0.0.0/1,128.0.0.0/1", "includes 0.0.0.0/1"),
        ("METRICS_ALLOW", "0.0.0.0/0", "includes 0.0.0.0/0"),
        ("RATE_LIMITS", "off", "is off"),
        ("PUBLIC_URL", "http://accounts.example.org", "is http"),
    ],
)
def test_serve_refuses_what_belongs_on_a_laptop_unless_told_otherwise(
    name: str, value: str, problem: str
) -> None:
    lines = refusal(GOOD | {f"REGSVC_{name}": value})
    assert any(line.startswith(f"REGSVC_{name} {problem}") for line in lines), lines
    allowed = serve(**{name: value}, ALLOW_INSECURE="on")
    assert any(line.startswith(f"REGSVC_{name} {problem}") for line in allowed.insecurities())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://admin:password@localhost:5434/users_db"),
        ("DATABASE_URL", "dbname=users password=password"),
        ("DATABASE_URL", "host=/run/postgresql user=app password=app"),
        ("AMQP_URL", "amqp://guest:guest@127.0.0.1/"),
        ("AMQP_URL", "amqp://guest:guest@[::1]:5672/"),
        ("SMTP_URL", "smtp://app:secret@localhost:1025"),
        ("DATABASE_URL", "host=@abstract,::1,127.0.0.2 password=password"),
        ("DATABASE_URL", f"host=db password={KEY} sslmode=require"),
        ("DATABASE_URL", f"host=db password={KEY} gssencmode=require"),
        ("AMQP_URL", f"amqp://app:{KEY}@localhost/ amqps://app:{KEY}@rabbitmq/"),
        ("SMTP_URL", "smtps://mail.example.org"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,172.16.0.0/12,fc00::/7,2400:cb00::/32"),
        ("METRICS_ALLOW", "none"),
        ("PUBLIC_URL", "http://localhost:8080"),
        ("PUBLIC_URL", "http://127.0.0.1"),
    ],
)
def test_what_stays_on_this_machine_may_be_plain(name: str, value: str) -> None:
    assert serve(**{name: value}).insecurities() == []


def test_an_exception_may_be_named_and_allows_nothing_else() -> None:
    clear = {"DATABASE_URL": f"host=db password={KEY}", "AMQP_URL": f"amqp://app:{KEY}@rabbitmq/"}
    assert "(REGSVC_ALLOW_INSECURE=rabbitmq allows it)" in refused(**clear, ALLOW_INSECURE="database")
    serve(**clear, ALLOW_INSECURE="Database, rabbitmq")
    lines = refusal(
        GOOD | {"REGSVC_SECRET_KEY": LAPTOP_SECRET_KEY, "REGSVC_ALLOW_INSECURE": "database,rabbitmq,smtp"}
    )
    assert [line.split()[0] for line in lines] == ["REGSVC_SECRET_KEY"]
    assert "must be on, off, or some of keys, database" in refused(ALLOW_INSECURE="databases")


def test_the_database_is_judged_by_what_libpq_takes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"postgresql://app:{KEY}@db/users"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    serve(DATABASE_URL=url)
    monkeypatch.setenv("PGHOST", "db.example.org")
    monkeypatch.setenv("PGSSLMODE", "prefer")
    assert "may connect unencrypted" in refused(DATABASE_URL=f"dbname=users password={KEY}")


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("[::]", ("::",)),
        ("*", ("*",)),
        ("LocalHost, ::1,127.0.0.1,::1", ("localhost", "::1", "127.0.0.1")),
        ("unix:/run/regsvc/http.sock,[fe80::1%eth0]", ("unix:/run/regsvc/http.sock", "fe80::1%eth0")),
    ],
)
def test_where_to_listen_is_written_in_several_ways(given: str, hosts: tuple[str, ...]) -> None:
    assert serve(HTTP_HOST=given).http_host == hosts


@pytest.mark.parametrize(
    "given",
    [
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "app://my.App/",
        "chrome-extension://abc",
    ],
)
def test_apps_in_a_web_view_have_origins_of_their_own_schemes(given: str) -> None:
    assert given.lower().removesuffix("/") in serve(ALLOWED_ORIGINS=f"https://a.example,{given}").origins


def test_random_keys_are_taken() -> None:
    for _ in range(200):
        key = os.urandom(16).hex()
        assert Settings.model_validate({"secret_key": key}).insecurities() == []


CANARY = "c4n4ry-Zq8vN2xK"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", CANARY),
        ("SMTP_URL", f"smtp://user:{CANARY}@mail.example.org:port"),
        ("SMTP_URL", f"smtp://user:{CANARY}#x@mail.example.org"),
        ("SMTP_URL", f"smtp://[{CANARY}]:x@mail"),
        ("AMQP_URL", f"amqp://a:x@one/;amqp://a:{CANARY}@two/"),
        ("AMQP_URL", f"amqp://a:x@one/ amqp://a:{CANARY}@t!wo/"),
        ("AMQP_URL", f"amqps://user:{CANARY}@rabbitmq:{CANARY}/?no_verify_ssl=1"),
        ("AMQP_URL", CANARY),
        ("DATABASE_URL", f"password='{CANARY}"),
        ("DATABASE_URL", CANARY),
        ("DATABASE_URL", f"postgresql://u:{CANARY}@h:x%zz/db"),
        ("HTTP_PORT", CANARY),
        ("ROLE", CANARY),
        ("TRUSTED_PROXIES", CANARY),
        ("MAIL_FROM", CANARY),
        ("PUBLIC_URL", f"https://{CANARY}:x@h/"),
    ],
)
def test_no_refusal_shows_a_value(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(GOOD | {f"REGSVC_{name}": value}, mode="serve")
    chain: BaseException | None = caught.value
    while chain is not None:
        assert CANARY not in f"{chain} {chain!r}"
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_a_password_with_a_question_mark_is_not_shown_as_an_unknown_option() -> None:
    assert "hunter" not in refused(SMTP_URL="smtp://user:1?hunter=x@mail.example.org")


@pytest.mark.parametrize("data", [b"%s\r\n", b"%s\n\n", b"\xef\xbb\xbf%s\n", b"%s \n", b"\t%s"])
def test_what_editors_add_around_a_secret_is_no_part_of_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data % KEY.encode())
    environ = GOOD | {"REGSVC_SECRET_KEY": "", "REGSVC_SECRET_KEY_FILE": str(tmp_path / "key")}
    assert load(environ, mode="serve").secret_key.get_secret_value() == KEY


def test_every_password_of_several_urls_is_masked() -> None:
    urls = f"amqps://a:{CANARY}%211@one/ amqps://a:{CANARY}%212@two/"
    assert {f"{CANARY}!1", f"{CANARY}!2"} <= serve(AMQP_URL=urls).secret_values()


def test_a_certificate_in_place_of_a_user_is_not_guest() -> None:
    assert serve(AMQP_URL="amqps://rabbitmq/?auth=external").insecurities() == []


def test_settings_show_no_secret_and_name_each_to_be_masked() -> None:
    url = f"amqps://user:{CANARY}%21@rabbitmq/"
    conninfo = f"host=db.example.org password={CANARY}-db sslmode=require"
    settings = serve(AMQP_URL=url, DATABASE_URL=conninfo, SECRET_KEY=KEY)
    assert CANARY not in f"{settings} {settings!r}"
    assert KEY not in f"{settings} {settings!r}"
    assert {KEY, url, f"{CANARY}%21", f"{CANARY}!", conninfo, f"{CANARY}-db"} <= settings.secret_values()


def test_the_environment_of_the_process_is_read_when_none_is_given() -> None:
    code = "from regsvc.config.loading import load; print(load(mode='serve', role='api').http_port)"
    environ = os.environ | GOOD | {"REGSVC_HTTP_PORT": "9001"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "9001"


def test_the_page_on_settings_has_exactly_the_settings() -> None:
    """`python -c "from regsvc.config.settings import describe; print(describe(), end='')"` prints the table anew."""
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    assert describe() in page


# What a pod finds in its environment beside Services named `regsvc` and `regsvc-http`.
SERVICE_LINKS = {
    "REGSVC_SERVICE_HOST": "10.96.0.12",
    "REGSVC_SERVICE_PORT": "8080",
    "REGSVC_SERVICE_PORT_HTTP": "8080",
    "REGSVC_PORT": "tcp://10.96.0.12:8080",
    "REGSVC_PORT_8080_TCP": "tcp://10.96.0.12:8080",
    "REGSVC_PORT_8080_TCP_PROTO": "tcp",
    "REGSVC_PORT_8080_TCP_PORT": "8080",
    "REGSVC_PORT_8080_TCP_ADDR": "10.96.0.12",
    "REGSVC_HTTP_SERVICE_HOST": "10.96.0.13",
    "REGSVC_HTTP_PORT": "tcp://10.96.0.13:80",
    "REGSVC_HTTP_PORT_80_TCP": "tcp://10.96.0.13:80",
}


def test_what_kubernetes_sets_for_its_services_is_no_setting() -> None:
    settings = load(GOOD | SERVICE_LINKS, mode="serve")
    assert settings.http_port == 8080
    assert list_service_links(GOOD | SERVICE_LINKS) == sorted(SERVICE_LINKS)


@pytest.mark.parametrize(
    "name", ["REGSVC_SERVICE", "REGSVC_PORT", "REGSVC_HTTP_PORTS", "REGSVC_SERVICE_HOSTS", "REGSVC_PORT_8080"]
)
def test_what_only_looks_like_a_service_is_still_refused(name: str) -> None:
    assert name in refused(**{name.removeprefix("REGSVC_"): "8080"})


def test_the_password_that_libpq_takes_from_its_own_variable_counts_like_one_in_the_url() -> None:
    environ = GOOD | {"REGSVC_DATABASE_URL": "host=db sslmode=require", "PGPASSWORD": "postgres"}
    assert "REGSVC_DATABASE_URL has a well-known password" in refusal(environ)[0]
    environ["PGPASSWORD"] = "it's a \\ secret"
    assert environ["PGPASSWORD"] in load(environ, mode="serve").secret_values()
    with_both = load(GOOD | {"PGPASSWORD": "another"}, mode="serve")
    assert with_both.database_url.get_secret_value() == GOOD["REGSVC_DATABASE_URL"]


def test_a_password_that_everybody_knows_is_not_masked() -> None:
    """It is no secret, and masking an ordinary word spoils the warning about it."""
    environ = GOOD | {"REGSVC_DATABASE_URL": "postgresql://app:password@db/users?sslmode=require"}
    settings = load(environ | {"REGSVC_ALLOW_INSECURE": "on"}, mode="serve")
    (line,) = settings.insecurities()
    out = io.StringIO()
    try:
        configure(format="json", stream=out, secrets=settings.secret_values())
        structlog.get_logger().warning("insecure", setting=line)
    finally:
        structlog.reset_defaults()
    assert json.loads(out.getvalue())["setting"] == line
