"""Which domains a setting names, in whatever spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsvc.accounts.address import parse_address
from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.errors import ConfigurationError
from regsvc.flows.signup.policy import DomainNotAllowedError, check_domain


def settings(**environ: str) -> Settings:
    named = {f"REGSVC_{name.upper()}": value for name, value in environ.items()}
    return loading.load(
        {"REGSVC_SECRET_KEY": "x" * 40, "REGSVC_SMTP_URL": "maildir:/nowhere", **named}, mode="dev"
    )


def admits(chosen: Settings, address: str) -> bool:
    try:
        check_domain(chosen, parse_address(address))
    except DomainNotAllowedError:
        return False
    return True


@pytest.mark.parametrize(
    ("allow", "address", "admitted"),
    [
        ("example.org", "ann@example.org", True),
        ("example.org", "ann@EXAMPLE.org", True),
        ("example.org", "ann@sub.example.org", False),
        ("example.org", "ann@anexample.org", False),
        ("*.example.org", "ann@sub.example.org", True),
        ("*.example.org", "ann@a.b.example.org", True),
        ("*.example.org", "ann@example.org", False),
        ("*.example.org", "ann@badexample.org", False),
        ("example.org,*.example.net", "ann@x.example.net", True),
        ("BÜCHER.example.com", "ann@xn--bcher-kva.example.com", True),
        ("xn--bcher-kva.example.com", "ann@bücher.example.com", True),
        ("straße.example.com", "ann@strasse.example.com", False),  # another domain with another owner
        ("strasse.example.com", "ann@straße.example.com", False),
        ("ｅxample.org", "ann@example.org", True),  # noqa: RUF001 - a full-width letter, which is the same domain
    ],
)
def test_a_name_means_its_domain_in_every_spelling(allow: str, address: str, *, admitted: bool) -> None:
    assert admits(settings(domains_allow=allow), address) is admitted
    assert admits(settings(domains_deny=allow), address) is not admitted


def test_what_is_denied_is_not_allowed() -> None:
    chosen = settings(domains_allow="*.example.org", domains_deny="bad.example.org")
    assert admits(chosen, "ann@good.example.org")
    assert not admits(chosen, "ann@bad.example.org")


def test_without_the_settings_every_domain_is_admitted() -> None:
    assert admits(settings(), "ann@mailinator.com")


def test_a_file_has_a_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "denied.txt"
    lines = (
        "\ufeff# throw-away",
        "bad.example",
        "",
        "  *.worse.example.com  # all of it",
        "bücher.example.com",
    )
    path.write_text("\n".join(lines), "utf-8")
    chosen = settings(domains_deny=f"{path},other.example.com")
    for denied in ("x@sub.worse.example.com", "x@bücher.example.com", "x@other.example.com"):
        assert not admits(chosen, denied)
    assert admits(chosen, "x@worse.example.com")


def test_the_list_of_disposable_domains_covers_what_is_below_them() -> None:
    chosen = settings(domains_deny="disposable")
    for address in ("x@mailinator.com", "x@MAILINATOR.com", "x@any.mailinator.com", "x@0815.ru"):
        assert not admits(chosen, address)
    for address in ("x@gmail.com", "x@web.de", "x@qq.com", "x@not-a-mailinator.org"):
        assert admits(chosen, address)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("domains_deny", "no domain", "is not a list of domains"),
        ("domains_deny", "a..b", "is not a list of domains"),
        ("domains_allow", "/nowhere/at/all", "names a file that cannot be read"),
        ("domains_allow", "{empty}", "names no domain"),
        ("domains_deny", "{bad}", "names a file whose line 2 is not a domain"),
        ("terms", "2026-01", "must have the form VERSION=URL"),
        ("terms", "2026-01=javascript:alert(1)", "must have the form VERSION=URL"),
        ("terms", "two words=https://example.org", "must have the form VERSION=URL"),
        ("signup", "sometimes", "'open', 'invite' or 'closed'"),
    ],
)
def test_what_cannot_be_meant_is_named_at_the_start(name: str, value: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "bad").write_text("good.example.com\nno domain\n")
    given = value.format(empty=tmp_path / "empty", bad=tmp_path / "bad")
    with pytest.raises(ConfigurationError, match=f"REGSVC_{name.upper()}.*{said}"):
        settings(**{name: given})
