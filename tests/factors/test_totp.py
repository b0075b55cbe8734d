"""Codes of authenticator apps, held against the standard's own."""

from __future__ import annotations

import base64

import pytest

from regsvc.accounts.factors.recovery_codes import read_recovery_code
from regsvc.accounts.factors.totp import Setup, find_step

# The secret and codes of RFC 6238, appendix B, for SHA-1; the last six of its eight digits.
SECRET = base64.b32encode(b"12345678901234567890").decode()
CODES = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
    20000000000: "353130",
}


@pytest.mark.parametrize(("now", "code"), CODES.items())
def test_codes_are_those_of_the_standard(now: int, code: str) -> None:
    step = now // 30
    assert find_step(SECRET, code, now) == step
    assert find_step(SECRET, code, now + 30) == step
    assert find_step(SECRET, code, max(now - 30, 30)) == step
    for seconds in (60, 90, 3600):
        assert find_step(SECRET, code, now + seconds) is None


def test_the_uri_is_what_apps_read() -> None:
    uri = Setup("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").uri(issuer="Acme & Söhne", account="ann+x@example.com")
    assert uri == (
        "otpauth://totp/Acme%20%26%20S%C3%B6hne:ann%2Bx%40example.com"
        "?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Acme%20%26%20S%C3%B6hne"
    )


@pytest.mark.parametrize(
    "typed", ["0ABC1-DEFG1", "oabci defgl", " OABC1DEFGI ", "\uff10\uff21bc1\uff0ddefg1", "0abc1\u2013defg1"]
)
def test_a_recovery_code_is_read_as_people_type_it(typed: str) -> None:
    assert read_recovery_code(typed) == "0ABC1DEFG1"


@pytest.mark.parametrize("typed", ["", "0ABC1", "0ABC1-DEFG1X", "0ABC1-DEFGU", "0ABC1-DEFG!"])
def test_what_is_no_recovery_code_is_none(typed: str) -> None:
    assert read_recovery_code(typed) is None
