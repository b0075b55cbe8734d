"""The description at /openapi.json is valid, whole, and true to what the service answers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import pytest
import trio
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from quart_trio import QuartTrio
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from regsvc.accounts.audit.record import By
from regsvc.accounts.service_tokens.service_token import Scope, create_token
from regsvc.accounts.users.notices import add_change_notice
from regsvc.http.response import problems
from regsvc.http.server import refusals
from regsvc.postgres.connection import Connection
from regsvc.security.identities.provider import hash_verifier
from tests.http.factor_calls import use_factors
from tests.http.login_code_calls import use_login_codes
from tests.http.passkey_calls import use_passkeys
from tests.http.reports import CREDENTIALS, postmark_bounce
from tests.identities.issuer import Issuer, provider_environment
from tests.identities.visitor import visiting
from tests.services import PASSWORD, Service, run_test_service
from tests.suite.application import open_application

Document = dict[str, Any]

API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"
# For people, for sockets, and the description itself.
ELSEWHERE = {
    "/",
    "/.well-known/change-password",
    "/.well-known/webauthn",
    "/policy-reports",
    "/{page}#t={token}",
    "/{page}%23t={token}",
    "/admin",
    "/admin/audit",
    "/admin/children/{child}/restart",
    "/admin/invitations",
    "/admin/invitations/{invitation_id}/revoke",
    "/admin/mails",
    "/admin/mails/{mail_id}",
    "/admin/mails/{mail_id}/{deed}",
    "/admin/suppressions",
    "/admin/suppressions/{suppression_id}/lift",
    "/admin/webhooks",
    "/admin/webhooks/{webhook_id}",
    "/admin/webhooks/{webhook_id}/rotate",
    "/admin/webhooks/{webhook_id}/{deed}",
    "/admin/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    "/admin/templates",
    "/admin/templates/{kind}",
    "/admin/users",
    "/admin/users/{user_id}/{deed}",
    "/account",
    "/account/address",
    "/account/address/state",
    "/account/delete",
    "/account/export",
    "/account/security/identities/proof/{name}",
    "/account/security/identities/remove",
    "/account/security/identities/with/{name}",
    "/account/password",
    "/account/proof/options",
    "/account/security/passkeys",
    "/account/security/passkeys/options",
    "/account/security/passkeys/remove",
    "/account/security/passkeys/rename",
    "/account/profile",
    "/account/proof",
    "/account/security",
    "/account/security/recovery-codes",
    "/account/security/totp",
    "/account/security/totp.svg",
    "/account/security/totp/confirm",
    "/account/security/totp/remove",
    "/account/sessions/end",
    "/account/sessions/end-all",
    "/account/terms",
    "/confirm",
    "/dev/mail",
    "/dev/mail/news",
    "/dev/mail/{name}",
    "/dev/mail/{name}/html",
    "/dev/mail/{name}/source",
    "/docs",
    "/email-change",
    "/email-not-me",
    "/email-undo",
    "/forgot",
    "/invite",
    "/login",
    "/login/code",
    "/login/code/resend",
    "/login/code/status",
    "/login/code/verify",
    "/login/second-factor",
    "/login/with/{name}",
    "/login/with/{name}/done",
    "/login/with/{name}/finish",
    "/login/with/{name}/terms",
    "/login/passkey",
    "/logout",
    "/mailbox",
    "/not-me",
    "/openapi.json",
    "/panic",
    "/reset",
    "/signup",
    "/signup/address",
    "/signup/check",
    "/signup/code",
    "/signup/resend",
    "/signup/status",
    "/static/brand.css",
    "/static/{filename}",
}
URI = "urn:openapi"
RETURN_TO = "https://app.example.org/login"


@pytest.fixture
async def app() -> AsyncIterator[QuartTrio]:
    """The application by itself: nothing is connected to anything."""
    async with open_application() as opened:
        yield opened


@pytest.fixture
async def document(app: QuartTrio) -> Document:
    answer = await app.test_client().get("/openapi.json")
    assert answer.headers["Cache-Control"] == "public, max-age=600"
    found: Document = json.loads(await answer.get_data())
    return found


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and description of every call."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def documented_codes(document: Document) -> set[str]:
    return set(re.findall(r"- `(\w+)`: ", json.dumps(document)))


async def test_it_is_openapi_3_1(document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


async def test_every_call_of_the_application_is_described_and_no_other(
    app: QuartTrio, document: Document
) -> None:
    routes = {
        (re.sub(r"<(?:\w+(?:\(.*?\))?:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if not rule.websocket
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, method, _ in operations(document)}
    assert {path for path, _ in routes - described} == ELSEWHERE
    assert not described - routes


async def test_every_call_has_a_name_of_its_own_and_says_what_it_does(document: Document) -> None:
    found = [operation for _, _, operation in operations(document)]
    assert len({operation["operationId"] for operation in found}) == len(found)
    assert all(operation["summary"] for operation in found)


async def test_every_problem_that_a_call_may_answer_is_described(document: Document) -> None:
    elsewhere = {  # on sockets and pages alone
        "origin_not_allowed",
        "identity_state_invalid",
        "identity_declined",
        "identity_provider_not_found",
        "identity_provider_unavailable",
        "return_not_allowed",
    }
    known = {error.code for error in problems.STATUSES} - elsewhere
    assert known - {"schema_mismatch"} <= documented_codes(document)


async def test_a_call_that_is_limited_says_so(document: Document) -> None:
    limited = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if "`rate_limited`" in operation["responses"].get("429", {}).get("description", "")
    }
    told = {
        operation["operationId"]
        for _, _, operation in operations(document)
        for status, reply in operation["responses"].items()
        if status.startswith("2") and "RateLimit" in reply["headers"]
    }
    assert limited == told
    assert {"post_login", "post_register", "post_confirm_email_code", "post_password_forgot"} <= limited


async def test_nothing_is_loaded_from_elsewhere(app: QuartTrio) -> None:
    client = app.test_client()
    for path in ("/redocs", "/scalar"):  # whose scripts would come from elsewhere
        assert (await client.get(path)).status_code == HTTPStatus.NOT_FOUND


def test_the_page_about_the_api_lists_every_problem_with_its_status() -> None:
    known = {(error.code, int(status)) for error, status in problems.STATUSES.items()}
    known |= {(code, int(status)) for status, code in problems._HTTP_CODES.items()}
    known |= {(code, status) for status, (code, _) in refusals.PROBLEMS.items()}
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", API_PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert {(code, int(status)) for code, status in rows} == known | {("internal_error", 500)}


async def test_the_page_about_the_api_lists_every_call(document: Document) -> None:
    page = API_PAGE.read_text()
    for path, method, _ in operations(document):
        call = f"{method} {path}"
        assert re.search(rf"`{re.escape(call)}(\?[^`]*)?`", page), call


class Checker:
    """Holds every answer of a client against the description.

    Args:
        document: the description.
    """

    def __init__(self, document: Document) -> None:
        for schema in document["components"]["schemas"].values():
            schema.setdefault("additionalProperties", False)  # clients must not mind more, we do
        self._document = document
        self._registry = Registry[Any]().with_resource(URI, DRAFT202012.create_resource(document))
        self.seen: set[tuple[str, str, int]] = set()

    async def check(self, answer: httpx.Response) -> None:
        """Check one answer."""
        await answer.aread()
        path, method = self._find_path(answer.request.url.path), answer.request.method
        responses = self._document["paths"][path][method.lower()]["responses"]
        steps = ["paths", path, method.lower(), "responses", str(answer.status_code)]
        assert steps[-1] in responses, (method, path, answer.status_code, answer.text)
        response = responses[steps[-1]]
        if "$ref" in response:
            steps = response["$ref"].removeprefix("#/").split("/")
            response = self._document["components"]["responses"][steps[-1]]
        for name, header in response["headers"].items():
            whole = self._document["components"]["headers"][name] if "$ref" in header else header
            assert name in answer.headers or not whole["required"], (name, answer.headers)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        assert media_type in response.get("content", {"": None})
        if media_type.endswith("json"):
            pointer = "/".join(
                step.replace("~", "~0").replace("/", "~1")
                for step in (*steps, "content", media_type, "schema")
            )
            validator = Draft202012Validator({"$ref": f"{URI}#/{pointer}"}, registry=self._registry)
            validator.validate(answer.json())
        self.seen.add((method, path, answer.status_code))

    def _find_path(self, path: str) -> str:
        known: list[str] = sorted(self._document["paths"], key=lambda each: each.count("{"))
        return next(each for each in known if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


async def test_what_is_answered_is_what_is_described(
    document: Document, database: str, tmp_path: Path, issuer: Issuer
) -> None:
    checker = Checker(document)
    environ = {"REGSVC_FEEDBACK_POSTMARK": ":".join(CREDENTIALS), "REGSVC_OIDC_RETURN_TO": RETURN_TO}
    async with (
        run_test_service(database, tmp_path, environ | provider_environment("OWN", issuer)) as running,
        httpx.AsyncClient(
            base_url=running.url, timeout=60, event_hooks={"response": [checker.check]}
        ) as client,
    ):
        service = Service(running.url, client, running.settings, running.mailbox)
        await follow_a_sign_up(service)
        await use_identities(service, issuer)
        for path in ("/healthz", "/readyz", "/metrics", "/.well-known/jwks.json"):
            await client.get(path)
    successes = {(path, method) for method, path, status in checker.seen if status < HTTPStatus.BAD_REQUEST}
    assert successes == {(path, method) for path, method, _ in operations(document)}
    assert {status for *_, status in checker.seen} >= {400, 401, 404, 409, 410, 412, 413, 415, 422, 429}


async def follow_a_sign_up(service: Service) -> None:
    """Make every call, rightly and in most wrong ways."""
    address = f"{uuid4()}@example.com"
    good = {"email": address, "password": PASSWORD, "name": "Ann"}
    for wrong in ({}, good | {"email": "x"}, good | {"password": "short"}, good | {"name": "a" * 20_000}):
        await service.post("/register", wrong)
    await service.client.post("/api/v1/register", content=b"{}")
    await service.post("/address-advice", {"email": "ann@gmial.com"})
    signed_up = await service.post("/register", good, {"Prefer": "return=representation"})
    url, handle = signed_up.headers["Location"], signed_up.json()["registration"]["handle"]
    known = {"Regsvc-Handle": handle}
    mail = await service.wait_mail(address)
    await service.client.get(url)
    await service.client.get(url, headers=known, params={"wait": "x"})
    await service.client.get(url, headers=known, params={"wait": "1", "seq": "0"})

    by_code = {"registration": url.rpartition("/")[2], "code": "000000"}
    await service.post("/confirm-email/code", by_code)
    for _ in range(6):
        await service.post("/confirm-email/code", by_code, known)
    await service.sign_up(address, name="Ann again")  # a second one: the link alone is not enough any more
    await service.post("/confirm-email/preview", {"token": mail.token})
    await service.post("/confirm-email", {"token": mail.token})
    await service.post("/confirm-email", {"token": mail.token, "password": "not this one"})
    await service.post("/confirm-email", {"token": "no"})
    await service.client.get("/api/v1/confirm-email", params={"token": mail.token})
    await service.post("/login", {"email": address, "password": PASSWORD})
    await service.post("/confirm-email", {"token": mail.token, "password": PASSWORD}, known)
    await service.post("/confirm-email/code", by_code | {"code": mail.code}, known)
    await service.post("/confirm-email/repudiate", {"token": mail.token})
    await service.client.patch(url, json={"email": address}, headers=known)
    await try_a_second_mail(service)
    await use_passkeys(service)

    tokens = (await service.post("/login", {"email": address, "password": PASSWORD})).json()
    for token in (tokens["refresh_token"], "no"):
        await service.post("/token/refresh", {"refresh_token": token})
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    await service.client.get("/api/v1/me")
    await service.client.get("/api/v1/me", headers=bearer)
    await service.client.get("/api/v1/me", headers=bearer | {"If-None-Match": "*"})
    for body, headers in (({"name": "B"}, {}), ({"locale": "xx"}, {}), ({"name": "C"}, {"If-Match": '"0"'})):
        await service.client.patch("/api/v1/me", json=body, headers=bearer | headers)
    await look_at_ones_sessions(service, bearer)
    bearer = await service.log_in(address)
    await export_with_proof(service, address, bearer)
    await service.client.post("/api/v1/logout/all", headers=bearer)
    await service.client.post("/api/v1/logout", headers=bearer)
    await choose_passwords(service, address)
    await change_there_and_back(service, address)
    await service.client.get("/api/v1/admin/mails", headers=await service.log_in(address))
    await execute(service, "UPDATE users SET role = 'admin' WHERE email = %(email)s", email=address)
    bearer = await service.log_in(address)
    await look_after_everything(service, address, bearer)
    await report_and_lift(service, bearer)
    await service.client.post("/api/v1/logout", headers=bearer)
    await leave(service, address)


async def ask_about_tokens(service: Service, bearer: dict[str, str]) -> None:
    """Ask as another service what a token is good for, and end a session by its token."""
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/userinfo"):
        await service.client.get(path, headers=bearer)
    await service.client.get("/userinfo")
    scopes: list[list[Scope]] = [["tokens:introspect"], ["users:read"]]
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        texts = [(await create_token(conn, "x", each, None, By("operator")))[1] for each in scopes]
    for text in (*texts, "no"):
        header = {"Authorization": f"Bearer {text}"}
        await service.client.post(
            "/oauth/introspect", data={"token": bearer["Authorization"][7:]}, headers=header
        )
    header = {"Authorization": f"Bearer {texts[0]}"}
    for path in ("/oauth/introspect", "/oauth/revoke"):
        for form in ({"token": "no"}, {"a": "b"}):
            await service.client.post(path, data=form, headers=header)
        await service.client.post(path, json={"token": "no"}, headers=header)
    await service.client.get("/api/v1/admin/audit", headers=header)


async def export_with_proof(service: Service, address: str, bearer: dict[str, str]) -> None:
    """Use second factors, and download the data in a session that has proved its user and in one that has not."""
    await service.client.get("/api/v1/me/export", headers=bearer)
    await use_factors(service, address)
    bearer = await service.log_in(address)
    await service.prove(bearer)
    await service.client.get("/api/v1/me/export", headers=bearer)


async def use_identities(service: Service, issuer: Issuer) -> None:
    """Log in with a provider, sign up with it, add an identity and remove it."""
    await service.client.get("/api/v1/identity-providers")
    challenge = {"return_to": RETURN_TO, "code_challenge": hash_verifier("v" * 43)}

    async def fetch_code() -> dict[str, str]:
        async with visiting(service) as visitor:
            answer = await visitor.go("own", issuer, challenge)
        return {"code": answer.headers["Refresh"].partition("code=")[2], "code_verifier": "v" * 43}

    for claims, code in (({"email_verified": False}, 202), ({"email": ""}, 422), ({}, 200)):
        issuer.claims = claims
        answer = await service.post("/token/exchange", await fetch_code())
        assert answer.status_code == code, answer.text
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    own = "/api/v1/me/identities"
    await service.client.delete(f"{own}/{uuid4()}", headers=bearer)
    for body in (await fetch_code(), {"code": "no", "code_verifier": "v" * 43}):
        await service.post("/me/identities/proof", body, bearer)
    issuer.subject = "person-2"
    for body in (await fetch_code(), {"code": "no", "code_verifier": "v" * 43}):
        await service.post("/me/identities", body, bearer)
    await service.post("/token/exchange", {"code": "no", "code_verifier": "v" * 43})
    found = (await service.client.get(own, headers=bearer)).json()["identities"]
    for each in (found[0]["id"], found[0]["id"], found[1]["id"]):
        await service.client.delete(f"{own}/{each}", headers=bearer)


async def invite_and_accept(service: Service, bearer: dict[str, str]) -> None:
    """Invite two people, of whom one accepts."""
    path, address = "/api/v1/admin/invitations", f"{uuid4()}@example.com"
    await service.post("/admin/invitations", {"email": address}, bearer)
    await service.prove(bearer)
    made = await service.post("/admin/invitations", {"email": address}, bearer)
    await service.post("/admin/invitations", {"email": "x"}, bearer)
    await service.client.get(path, headers=bearer)
    await service.client.get(f"/api/v1/admin/invitations/{made.json()['id']}", headers=bearer)
    accepted = {"token": await service.wait_link("invite", address), "name": "Ida", "password": PASSWORD}
    for body in (accepted | {"token": "no"}, accepted | {"password": "short"}, accepted, accepted):
        await service.post("/invitations/accept", body)
    other = await service.post("/admin/invitations", {"email": f"{uuid4()}@example.com"}, bearer)
    for known in (other.json()["id"], other.json()["id"], str(uuid4())):
        await service.client.delete(f"{path}/{known}", headers=bearer)


async def manage_webhooks(service: Service, bearer: dict[str, str]) -> None:
    """Make every call about webhooks."""
    path = "/admin/webhooks"
    for body in ({"url": "https://192.0.2.1/"}, {"url": "nonsense"}):
        made = await service.post(path, body, bearer)
        await service.post(path, body)
        known = made.json().get("id", uuid4())
        await service.client.get(f"/api/v1{path}", headers=bearer)
        sent = await service.post(f"{path}/{known}/test", {}, bearer)
        await service.client.get(f"/api/v1{path}/{known}/deliveries", headers=bearer)
        delivery = sent.json().get("delivery", uuid4())
        with trio.move_on_after(
            5 if made.status_code == 201 else 0
        ):  # the address is refused, and tried again
            while True:
                shown = await service.client.get(f"/api/v1{path}/{known}/deliveries", headers=bearer)
                if shown.json()["deliveries"][0]["state"] == "delayed":
                    break
        await service.post(f"{path}/{known}/deliveries/{delivery}/replay", {}, bearer)
        await service.client.get(f"/api/v1{path}/{known}", headers=bearer)
        for since in ("2026-01-31T12:00:00Z", "yesterday"):
            await service.post(f"{path}/{known}/replay", {"since": since}, bearer)
        await service.post(f"{path}/{known}/rotate", {}, bearer)
        for deed in ("enable", "disable", "disable", "test", "enable"):
            await service.post(f"{path}/{known}/{deed}", {}, bearer)
        await service.client.delete(f"/api/v1{path}/{known}", headers=bearer)
        for deed in ("enable", "disable", "test"):
            await service.post(f"{path}/{known}/{deed}", {}, bearer)
        await service.post(f"{path}/{known}/deliveries/{delivery}/replay", {}, bearer)


async def report_and_lift(service: Service, bearer: dict[str, str]) -> None:
    """Report a bounce, lift what it suppressed, and invite."""
    await invite_and_accept(service, bearer)
    await manage_webhooks(service, bearer)
    path, reports = "/api/v1/admin/suppressions", "/api/v1/feedback/postmark"
    bounced = f"{uuid4()}@example.com"
    await service.sign_up(bounced)
    mail_id = str((await service.wait_mail(bounced)).message["Message-ID"]).strip("<>").partition("@")[0]
    await service.client.post(reports, json=postmark_bounce(mail_id))
    await service.client.post(reports, json=postmark_bounce(mail_id), auth=CREDENTIALS)
    await service.client.get(path)
    (found,) = (await service.client.get(path, headers=bearer)).json()["suppressions"]
    for _ in range(2):
        await service.client.delete(f"{path}/{found['id']}", headers=bearer)


async def look_at_ones_sessions(service: Service, bearer: dict[str, str]) -> None:
    """Make every call about one's terms and sessions, and end the session in which that is done."""
    for path in ("/api/v1/me/activity", "/api/v1/me/activity?limit=0"):
        await service.client.get(path, headers=bearer)
        await service.client.get(path)
    sessions = "/api/v1/sessions"
    await service.client.get("/api/v1/me/terms", headers=bearer)
    await service.post("/me/terms", {"terms": "2026-01"}, bearer)
    await service.post("/challenge", {"purpose": "login"})
    await service.client.get(sessions)
    found = (await service.client.get(sessions, headers=bearer)).json()["sessions"]
    (mine,) = [each["id"] for each in found if each["current"]]
    for session_id in (str(uuid4()), mine):
        await service.client.delete(f"{sessions}/{session_id}", headers=bearer)


async def leave(service: Service, address: str) -> None:
    """Delete an administrator's account, which is not the last of them."""
    bearer = await service.log_in(address)
    for password in ("not this one", PASSWORD):
        await service.client.request("DELETE", "/api/v1/me", json={"password": password}, headers=bearer)
    await execute(service, "UPDATE users SET role = 'user' WHERE email = %(email)s", email=address)
    await service.client.request("DELETE", "/api/v1/me", json={"password": PASSWORD}, headers=bearer)


async def choose_passwords(service: Service, address: str) -> None:
    """Change the password, forget it, and set it with the link."""
    bearer = await service.log_in(address)
    for current, new in ((PASSWORD, "short"), ("wrong", PASSWORD), (PASSWORD, PASSWORD)):
        body = {"current_password": current, "new_password": new}
        await service.client.put("/api/v1/me/password", json=body, headers=bearer)
    number = len(service.mails(address))
    await service.post("/password/forgot", {"email": address})
    await service.post("/password/forgot", {"email": "x"})
    mail = await service.wait_mail(address, number=number + 2)
    token = next(m for m in (mail, *service.mails(address)) if "/reset#t=" in m.text).token_for("reset")
    for given, password in (("no", PASSWORD), (token, "short"), (token, PASSWORD), (token, PASSWORD)):
        await service.post("/password/reset", {"token": given, "password": password})


async def change_there_and_back(service: Service, address: str) -> None:
    """Move the account to another address, and undo that."""
    bearer, new = await service.log_in(address), f"moved-{address}"
    await refuse_a_change(service, address, bearer)
    known = len(service.mails(address))
    for email, password in ((address, PASSWORD), (new, "wrong"), (new, PASSWORD)):
        await service.post("/me/email", {"email": email, "password": password}, bearer)
    confirm = (await service.wait_mail(new)).token_for("email-change")
    await service.post("/me/email/confirm", {"token": confirm}, {"Authorization": "Bearer no"})
    for token, proof in (
        ("no", {}),
        (confirm, {}),
        (confirm, {"password": "wrong"}),
        (confirm, {"password": PASSWORD}),
    ):
        await service.post("/me/email/confirm", {"token": token, **proof})
    undo = await wait_token(service, address, "email-undo", known)
    for token in ("no", undo):
        await service.post("/me/email/undo", {"token": token})
    await service.post("/me/email/confirm", {"token": confirm, "password": PASSWORD})
    reset = await wait_token(service, address, "reset", known)
    await service.post("/password/reset", {"token": reset, "password": PASSWORD})
    await take_the_account_back(service, address)
    await use_login_codes(service, address)


async def take_the_account_back(service: Service, address: str) -> None:
    """Press the link of a security notice."""
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        cursor = await conn.execute("SELECT id FROM users WHERE email = %s", [address])
        (user_id,) = await cursor.fetchone() or ()
        await add_change_notice(conn, user_id, "passkey_added", By("anonymous"))
    panic = await service.wait_link("panic", address)
    known = len(service.mails(address))
    for token in ("no", panic, panic):
        await service.post("/me/panic", {"token": token})
    reset = await wait_token(service, address, "reset", known)
    await service.post("/password/reset", {"token": reset, "password": PASSWORD})


async def refuse_a_change(service: Service, address: str, bearer: dict[str, str]) -> None:
    """Ask to move the account, and have the reader of the mail refuse it."""
    known, new = len(service.mails(address)), f"refused-{address}"
    await service.post("/me/email", {"email": new, "password": PASSWORD}, bearer)
    asked = (await service.wait_mail(new)).token_for("email-change")
    for token in ("no", asked):
        await service.post("/me/email/repudiate", {"token": token})
    await wait_token(service, address, "email-undo", known)


async def wait_token(service: Service, address: str, page: str, known: int) -> str:
    """Wait for a mail beside those known that links to a page, and return its token."""
    with trio.fail_after(20):
        while True:
            for mail in service.mails(address)[known:]:
                if f"/{page}#t=" in mail.text:
                    return mail.token_for(page)
            await trio.sleep(0.02)


async def look_after_everything(service: Service, address: str, bearer: dict[str, str]) -> None:
    """Make every call that an administrator has."""
    await ask_about_tokens(service, bearer)
    await look_after_mails(service, address, bearer)
    await look_after_users(service, bearer)
    await look_after_registrations(service, bearer)
    await service.client.get("/api/v1/admin/keys", headers=bearer)
    await service.client.post("/api/v1/admin/keys/rotate", headers=bearer)
    for limit in ("0", "1"):
        await service.client.get("/api/v1/admin/audit", params={"limit": limit}, headers=bearer)
    await service.client.get("/api/v1/admin/supervisor", headers=bearer)
    for child in ("janitor", "http", "nobody"):
        await service.client.post(f"/api/v1/admin/supervisor/{child}/restart", headers=bearer)


async def look_after_mails(service: Service, address: str, bearer: dict[str, str]) -> None:
    """Make every call that an administrator has for mails."""
    mails = "/api/v1/admin/mails"
    await service.client.get(mails, params={"limit": "0"}, headers=bearer)
    listed = await service.client.get(mails, params={"address": address, "kind": "signup"}, headers=bearer)
    known: str = listed.json()["mails"][0]["id"]
    for mail in (known, str(uuid4())):
        for deed in ("replay", "cancel"):
            await service.client.post(f"{mails}/{mail}/{deed}", headers=bearer)
    await execute(
        service,
        "UPDATE mails SET state = 'delayed', reason = 'held', lease = NULL, sent_at = NULL, "
        "due_at = now() + interval '1 hour' WHERE id = %(id)s",
        id=known,
    )
    await service.client.post(f"{mails}/{known}/cancel", headers=bearer)
    for mail in (known, str(uuid4())):
        await service.client.get(f"{mails}/{mail}", headers=bearer)
    new = f"new-{address}"
    await service.sign_up(new)
    await service.wait_mail(new)
    listed = await service.client.get(mails, params={"address": new}, headers=bearer)
    await service.client.post(f"{mails}/{listed.json()['mails'][0]['id']}/replay", headers=bearer)
    await service.client.post(f"{mails}/replay-dead", headers=bearer)


async def look_after_users(service: Service, bearer: dict[str, str]) -> None:
    """Make every call that an administrator has for users."""
    users = "/api/v1/admin/users"
    address = f"{uuid4()}@example.com"
    await service.confirm(address)
    await service.client.get("/api/v1/users", params={"limit": "0"}, headers=bearer)
    for path in ("/api/v1/users", users):
        listed = await service.client.get(path, params={"search": address}, headers=bearer)
    me = (await service.client.get("/api/v1/me", headers=bearer)).json()["id"]
    for user in (listed.json()["users"][0]["id"], me, str(uuid4())):
        for path in ("", "/sessions"):
            await service.client.get(f"{users}/{user}{path}", headers=bearer)
        if user == me:
            await service.client.post(f"{users}/{user}/disable", headers=bearer)
        else:
            for deed in ("disable", "enable", "end-sessions"):
                await service.client.post(f"{users}/{user}/{deed}", headers=bearer)
        await service.client.delete(f"{users}/{user}", headers=bearer)


async def look_after_registrations(service: Service, bearer: dict[str, str]) -> None:
    """Make every call that an administrator has for registrations."""
    registrations = "/api/v1/admin/registrations"
    address = f"{uuid4()}@example.com"
    signed_up = [await service.sign_up(address) for _ in range(2)]
    await service.client.get(registrations, params={"limit": "0"}, headers=bearer)
    await service.client.get(registrations, params={"address": address}, headers=bearer)
    first, second = (answer.headers["Location"].rpartition("/")[2] for answer in signed_up)
    for known in (str(uuid4()), first, first, second):
        await service.client.get(f"{registrations}/{known}", headers=bearer)
        await service.client.post(f"{registrations}/{known}/confirm", headers=bearer)


async def execute(service: Service, statement: LiteralString, **values: str) -> None:
    """Change what no call changes."""
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        await conn.execute(statement, values)


async def try_a_second_mail(service: Service) -> None:
    address = f"{uuid4()}@example.com"
    signed_up = await service.sign_up(f"wrong-{address}")
    known = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    await service.client.patch(signed_up.headers["Location"], json={"email": address})
    await service.client.patch(signed_up.headers["Location"], json={"email": address}, headers=known)
    mail = await service.wait_mail(address)
    await service.post("/confirm-email/resend", {"email": address})
    await service.post("/confirm-email/resend", {"email": address, "registration": "no"})
    for path in ("/confirm-email/repudiate", "/confirm-email/repudiate", "/confirm-email"):
        await service.post(path, {"token": mail.token})
