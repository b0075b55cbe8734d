"""The strict policy with its list of common passwords."""

from __future__ import annotations

import pytest

from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.security.common_passwords import CommonPasswords, load_common_passwords
from regsvc.security.passwords import fold
from regsvc.security.policy import find_weaknesses


def make_settings(policy: str) -> Settings:
    return loading.load(
        {
            "REGSVC_PASSWORD_POLICY": policy,
            "REGSVC_BRAND_NAME": "Blue Lagoon",
            "REGSVC_PUBLIC_URL": "https://accounts.lagoon-diving.example",
            "REGSVC_SECRET_KEY": "a secret of the tests that is long enough",
            "REGSVC_SMTP_URL": "maildir:mail",
        },
        mode="dev",
    )


async def codes(password: str, policy: str = "strict") -> list[str]:
    found = await find_weaknesses(make_settings(policy), password, email="ann@example.com", name="Ann Lee")
    return [weakness.code for weakness in found]


@pytest.mark.parametrize(
    "password",
    ["passwordpassword", "qwertyuiop123456", "PASSWORDpassword", "1234567890123456", "iloveyouforever"],
)
async def test_a_password_that_everybody_tries_is_not_strict_whatever_its_capital_letters(
    password: str,
) -> None:
    assert await codes(password) == ["common"]
    assert await codes(password, "basic") == []


@pytest.mark.parametrize(
    "password", ["bluelagoon diving", "Accounts@Lagoon-Diving", "BLUE lagoon Ann Lee 1", "annlagoonlee2026"]
)
async def test_words_of_the_service_and_the_person_do_not_make_a_password(password: str) -> None:
    assert await codes(password) == ["context_words"]
    assert await codes(password, "basic") == []


async def test_a_password_of_ones_own_is_strict_enough() -> None:
    assert await codes("seven otters knit quietly") == []
    assert await codes("lagoon otters knit quietly") == []


def test_the_list_is_as_long_as_the_policy_says() -> None:
    assert len(load_common_passwords()) >= 100_000
    assert load_common_passwords() is load_common_passwords()


def test_a_list_has_what_was_put_in_and_nothing_else() -> None:
    known = CommonPasswords(map(fold, ["Straße", "b", "B", "\ud800"]))
    assert len(known) == 3
    assert all(fold(password) in known for password in ("STRASSE", "b", "\ud800"))
    assert not any(password in known for password in ("", "a", "c", "Straße", 1))
    assert "a" not in CommonPasswords(iter(()))
