from __future__ import annotations

from pathlib import Path

import pytest

from regsvc.config.mail_url import MaildirFolder, SmtpServer, parse_mail_url
from regsvc.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("smtp://mail.example.org", SmtpServer(host="mail.example.org", port=25, security="none")),
        ("smtp://localhost:1025/", SmtpServer(host="localhost", port=1025, security="none")),
        ("smtp://[::1]:2525", SmtpServer(host="::1", port=2525, security="none")),
        (
            "smtp+starttls://jane%40example.org:p%3A%2F%40ss@smtp.gmail.com",
            SmtpServer(
                host="smtp.gmail.com",
                port=587,
                security="starttls",
                username="jane@example.org",
                password="p:/@ss",
            ),
        ),
        (
            "SMTPS://u:p%C3%A4ss@Mail.Example.org",
            SmtpServer(host="mail.example.org", port=465, security="tls", username="u", password="päss"),
        ),
        ("maildir:/var/mail/x", MaildirFolder(Path("/var/mail/x"))),
        ("maildir:.regsvc/my mail", MaildirFolder(Path(".regsvc/my mail"))),
    ],
)
def test_a_mail_url_says_where_mail_goes(url: str, meant: SmtpServer | MaildirFolder) -> None:
    """Each scheme has its port and encryption; user name and password are percent-decoded."""
    assert parse_mail_url(url) == meant


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "http://u:hunter2@host",
        "smtp:hunter2",
        "smtp://",
        "smtp://:25",
        "smtp://u:hunter2@",
        "smtp://u:hunter2@host:port",
        "smtp://u:hunter2@host:99999",
        "smtp://u:hunter2@host:0",
        "smtp://u:hun/ter2@host",
        "smtp://u:hun#ter2@host",
        "smtp://u:hunter2@host/path",
        "smtp://u:hunter2@host?no_verify_ssl=1",
        "smtp://u:hunter2@[::1",
        "smtp://u:hunter2\u2100@host",  # urlsplit itself objects, and quotes it
        "smtp://u:hunter2%ff@host",
        "smtp://u:hunter2%0d%0aDATA@host",
        "smtp://u:hunter2%00@host",
        "smtp://u:hun\tter2@host",
        "smtp://hunter2@host",
        "smtp://:hunter2@host",
        "smtp://u:hunter2@ho\\st",
        "maildir:",
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url: str) -> None:
    """Neither the message nor the chained exceptions quote any of the URL."""
    with pytest.raises(ConfigurationError) as caught:
        parse_mail_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hun" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_server_is_shown_without_its_password() -> None:
    """Its repr may stand in a log or traceback."""
    assert "hunter2" not in repr(parse_mail_url("smtp://u:hunter2@host"))
