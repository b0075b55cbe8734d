"""Settings of identity providers: one family of variables for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsvc.config.loading import load
from regsvc.config.settings import Settings
from regsvc.errors import ConfigurationError

GOOD = {
    "REGSVC_DATABASE_URL": "postgresql:///x",
    "REGSVC_SECRET_KEY": "a secret of the tests that is long enough",
    "REGSVC_SMTP_URL": "maildir:/nowhere",
}
GOOGLE = {"REGSVC_OIDC_GOOGLE_CLIENT_ID": "id", "REGSVC_OIDC_GOOGLE_CLIENT_SECRET": "canary-secret"}


def read(**environ: str) -> Settings:
    return load(GOOD | {f"REGSVC_OIDC_{name}": value for name, value in environ.items()}, mode="dev")


def refusal(**environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        read(**environ)
    assert "canary" not in str(refused.value)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def test_without_variables_there_is_no_provider() -> None:
    assert read().oidc_providers == ()


def test_presets_know_their_issuers_and_show_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("canary-file\n")
    settings = read(
        GOOGLE_CLIENT_ID="id",
        GOOGLE_CLIENT_SECRET_FILE=str(file),
        MICROSOFT_CLIENT_ID="id",
        MICROSOFT_CLIENT_SECRET="canary-secret",
        MICROSOFT_TENANT="contoso.example",
        GITHUB_CLIENT_ID="id",
        GITHUB_CLIENT_SECRET="canary-secret",
        ACME2_ISSUER="https://id.acme.example/",
        ACME2_CLIENT_ID="id",
        ACME2_CLIENT_SECRET="canary-secret",
        ACME2_LABEL="Acme",
        ACME2_DOMAINS="acme.example",
    )
    assert {each.name: (each.issuer, each.label) for each in settings.oidc_providers} == {
        "google": ("https://accounts.google.com", "Google"),
        "microsoft": ("https://login.microsoftonline.com/contoso.example/v2.0", "Microsoft"),
        "github": ("https://github.com", "GitHub"),
        "acme2": ("https://id.acme.example/", "Acme"),
    }
    assert "canary" not in f"{settings} {settings!r}"
    assert {"canary-file", "canary-secret"} <= settings.secret_values()


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"GOOGLE_CLIENTID": "x"},
            "REGSVC_OIDC_GOOGLE_CLIENTID is not a setting; did you mean REGSVC_OIDC_GOOGLE_CLIENT_ID?",
        ),
        ({"RETURNTO": "x"}, "REGSVC_OIDC_RETURNTO is not a setting; did you mean REGSVC_OIDC_RETURN_TO?"),
        ({"google_CLIENT_ID": "x"}, "REGSVC_OIDC_google_CLIENT_ID is not a setting"),
        ({"PROVIDERS": "x"}, "REGSVC_OIDC_PROVIDERS is not a setting"),
        ({"GOOGLE_CLIENT_ID": "x"}, "REGSVC_OIDC_GOOGLE_CLIENT_SECRET is missing"),
        ({"ACME_CLIENT_ID": "x", "ACME_CLIENT_SECRET": "canary"}, "REGSVC_OIDC_ACME_ISSUER is missing"),
        ({"APPLE_CLIENT_ID": "x"}, "REGSVC_OIDC_APPLE_PRIVATE_KEY is missing"),
        ({"APPLE_PRIVATE_KEY": "canary"}, "REGSVC_OIDC_APPLE_PRIVATE_KEY has to be a private key of P-256"),
        ({"GOOGLE_TENANT": "x"}, "REGSVC_OIDC_GOOGLE_TENANT is a setting of MICROSOFT alone"),
        ({"ACME_ISSUER": "http://id.example"}, "REGSVC_OIDC_ACME_ISSUER has to be an https:// URL"),
        ({"ACME_ISSUER": "https://id.example?x=canary"}, "REGSVC_OIDC_ACME_ISSUER has to be an https:// URL"),
        ({"ACME_ISSUER": "https://u:canary@id.example"}, "REGSVC_OIDC_ACME_ISSUER has to be an https:// URL"),
        ({"RETURN_TO": "http://app.example/x"}, "REGSVC_OIDC_RETURN_TO has to list whole URIs"),
        ({"RETURN_TO": "https://app.example/x#y"}, "REGSVC_OIDC_RETURN_TO has to list whole URIs"),
        ({"RETURN_TO": "javascript:alert(1)"}, "REGSVC_OIDC_RETURN_TO has to list whole URIs"),
        ({"RETURN_TO": "/login"}, "REGSVC_OIDC_RETURN_TO has to list whole URIs"),
    ],
    ids=[str(number) for number in range(16)],
)
def test_what_cannot_be_meant_is_named(environ: dict[str, str], line: str) -> None:
    assert any(each.startswith(line) for each in refusal(**environ)), refusal(**environ)


def test_both_forms_of_a_secret_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("canary-file")
    lines = refusal(GOOGLE_CLIENT_ID="id", GOOGLE_CLIENT_SECRET="canary", GOOGLE_CLIENT_SECRET_FILE=str(file))
    assert lines == [
        "REGSVC_OIDC_GOOGLE_CLIENT_SECRET_FILE and REGSVC_OIDC_GOOGLE_CLIENT_SECRET are both set; remove one"
    ]
