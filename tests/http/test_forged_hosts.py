"""Links lead where the operator says, whatever a client says of host, scheme and address."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.services import PASSWORD, Service

EVIL = "evil.example"
FORGED: dict[str, dict[str, str]] = {
    "host": {"Host": EVIL},
    "host with a port": {"Host": f"{EVIL}:8080"},
    "forwarded host": {"X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "https", "X-Forwarded-Port": "444"},
    "forwarded": {"Forwarded": f'for=203.0.113.9;host="{EVIL}";proto=https'},
    "forwarded for": {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "True-Client-IP": "203.0.113.9",
    },
    "rewritten": {
        "X-Original-URL": f"http://{EVIL}/",
        "X-Rewrite-URL": f"//{EVIL}/",
        "X-Original-Host": EVIL,
    },
    "prefixed": {"X-Forwarded-Prefix": f"//{EVIL}", "X-Script-Name": f"//{EVIL}"},
    "referred": {"Origin": f"https://{EVIL}", "Referer": f"https://{EVIL}/x"},
}


async def test_a_host_with_an_account_is_none(shared_service: Service) -> None:
    answer = await shared_service.client.get("/healthz", headers={"Host": f"127.0.0.1@{EVIL}"})
    assert answer.status_code == 400
    assert EVIL not in answer.text


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
async def test_no_mail_and_no_answer_believes_what_a_client_says_of_itself(
    shared_service: Service, headers: dict[str, str]
) -> None:
    """Also where a client is: nobody trusts it here to be a proxy."""
    address = f"{uuid4()}@example.com"
    body = {"email": address, "password": PASSWORD, "name": "Ann"}
    answers = [await shared_service.post("/register", body, headers)]
    mails = [await shared_service.wait_mail(address)]
    answers.append(await shared_service.post("/confirm-email/resend", {"email": address}, headers))
    mails.append(await shared_service.wait_mail(address, number=2))
    old_link = f"/api/v1/confirm-email?token={mails[0].token}"
    answers += [
        await shared_service.client.get(path, headers=headers)
        for path in (old_link, "/api/v1/me", "/api/v1/me/", "//x/..", "/confirm")
    ]
    answers.append(await shared_service.post("/confirm-email", {"token": mails[0].token}, headers))
    answers.append(await shared_service.post("/password/forgot", {"email": address}, headers))
    mails.append(await shared_service.wait_mail(address, number=3))
    for answer in answers:
        assert answer.status_code < 500
        assert EVIL not in str(answer.headers) + answer.text
        location = answer.headers.get("Location", "")
        assert not location.startswith("//")
        assert "://" not in location or location.startswith(f"{shared_service.settings.public_url}/")
    for mail in mails:
        whole = mail.message.as_string()
        assert EVIL not in whole
        assert "203.0.113" not in whole
        assert mail.text.count("://") == mail.text.count(f"{shared_service.settings.public_url}/") > 0
