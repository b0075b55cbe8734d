"""The way to an identity provider and back, over HTTP: what a browser is told, and what changes when."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from regsvc.security.identities.client_secret import LIFE
from regsvc.security.identities.provider import hash_verifier
from tests.identities.issuer import CLIENT_ID, Issuer, ec_key, provider_environment
from tests.identities.visitor import COUNTED, count_rows, execute, read_return, visiting
from tests.services import PASSWORD, run_test_service

RETURN_TO = "https://app.example.org/login?from=regsvc"
VERIFIER = "v" * 43


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


def environment(issuer: Issuer, **more: str) -> dict[str, str]:
    return (
        provider_environment("OWN", issuer) | {"REGSVC_OIDC_RETURN_TO": f"{RETURN_TO} app.example:/in"} | more
    )


async def test_the_way_there_is_a_request_with_pkce_state_and_nonce_of_its_own(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        seen: list[dict[str, str]] = []
        for _ in range(2):
            async with visiting(service) as visitor:
                url = await visitor.depart("own")
                assert url.startswith(f"{issuer.url}/authorize?")
                seen.append(dict(parse_qsl(urlsplit(url).query)))
                assert not set(seen[-1].values()) & set(visitor.client.cookies.values())
        for name in ("state", "nonce", "code_challenge"):
            assert len({each[name] for each in seen}) == 2
            assert all(len(each[name]) == 43 for each in seen)
        fixed = {name: seen[0][name] for name in ("response_type", "client_id", "redirect_uri", "scope")}
        assert fixed == {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": f"{service.url}/login/with/own/done",
            "scope": "openid email profile",
        }
        answer = await service.client.get("/login/with/own")
        cookie = {*answer.headers["Set-Cookie"].split("; ")}
        assert {"HttpOnly", "SameSite=Lax", "Max-Age=600", "Path=/"} <= cookie
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await count_rows(database)) == dict.fromkeys(COUNTED, 0)


async def test_the_cookie_is_of_this_host_alone_where_there_is_tls(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    environ = environment(issuer, REGSVC_PUBLIC_URL="https://accounts.example.org")
    async with run_test_service(database, tmp_path, environ) as service:
        cookie = (await service.client.get("/login/with/own")).headers["Set-Cookie"]
        assert cookie.startswith("__Host-regsvc-identity-flow=")
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


async def test_the_way_back_changes_nothing_until_our_own_page_posts_it(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    async with (
        run_test_service(database, tmp_path, environment(issuer)) as service,
        visiting(service) as visitor,
    ):
        url = issuer.authorize(await visitor.depart("own"))
        path = url.removeprefix(service.url)
        for method in ("GET", "HEAD", "GET"):
            answer = await visitor.client.request(method, path)
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
        assert issuer.forms == []
        assert await count_rows(database) == dict.fromkeys(COUNTED, 0)
        action, fields = read_return(await visitor.client.get(path))
        # Another site's page does not post it, whatever it knows.
        for headers in (
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://attacker.example"},
            {"Sec-Fetch-Site": "same-site", "Origin": "null"},
            {"Origin": "https://attacker.example"},
            {},
        ):
            answer = await visitor.client.post(action, data=fields, headers=headers)
            assert answer.status_code == 403, headers
        assert issuer.forms == []
        # A browser without Fetch Metadata sends `null` from a page without referrers.
        answer = await visitor.client.post(action, data=fields, headers={"Origin": "null"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/account")
        assert "regsvc-identity-flow" not in visitor.client.cookies


async def test_a_declined_login_and_a_strange_provider_are_told(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        async with visiting(service) as visitor:
            state = parse_qs(urlsplit(await visitor.depart("own")).query)["state"][0]
            action, fields = await visitor.arrive(
                f"{service.url}/login/with/own/done?error=access_denied&state={state}"
            )
            answer = await visitor.post(action, fields)
            assert (answer.status_code, "was cancelled" in answer.text) == (400, True)
        accept = {"Accept": "text/html"}
        for path in ("/login/with/other", "/login/with/other/done?code=1&state=2", "/login/with/own/x"):
            assert (await service.client.get(path, headers=accept)).status_code == 404
        gone_back = await service.client.get(
            "/login/with/own/done"
        )  # the page takes the answer out of its address
        assert (gone_back.status_code, gone_back.headers["Location"]) == (303, "/login")
        posted = await service.client.post("/login/with/own/done", data={"code": "1", "state": "2"})
        assert posted.status_code == 405
        # An answer that says a thing twice says nothing.
        twice = await service.client.get("/login/with/own/done?code=1&code=2&state=3")
        assert read_return(twice)[1] == {}


async def test_buttons_say_which_one_this_browser_used_last(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    environ = environment(issuer) | provider_environment("GITLAB", issuer, LABEL="Our <GitLab>")
    async with run_test_service(database, tmp_path, environ) as service, visiting(service) as visitor:
        for page in ("/login", "/signup"):
            text = (await visitor.client.get(page)).text
            assert "Continue with Own" in text
            assert "Continue with Our &lt;GitLab&gt;" in text
            assert "Last used" not in text
        await visitor.go("own", issuer)
        await visitor.client.get("/login")
        await visitor.post("/logout", {"x": ""})
        text = (await visitor.client.get("/login")).text
        assert re.findall(r'href="/login/with/(\w+)">[^<]+<span class="badge">Last used', text) == ["own"]
        async with visiting(service) as other:
            assert "Last used" not in (await other.client.get("/login")).text


async def test_another_client_gets_a_code_in_its_uri_and_exchanges_it_once(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    query = {"return_to": RETURN_TO, "code_challenge": hash_verifier(VERIFIER)}
    async with run_test_service(database, tmp_path, environment(issuer)) as service:

        async def fetch_code() -> str:
            async with visiting(service) as visitor:
                answer = await visitor.go("own", issuer, query)
                assert "regsvc-session" not in visitor.client.cookies
            link = re.search(r'<a class="button" href="([^"]+)"', answer.text)
            assert link
            uri = unescape(link[1])
            assert answer.headers["Refresh"] == f"0;url={uri}"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert uri.startswith(f"{RETURN_TO}&code=")
            return parse_qs(urlsplit(uri).query)["code"][0]

        code = await fetch_code()
        assert (await count_rows(database))["users"] == 0
        answer = await service.post("/token/exchange", {"code": code, "code_verifier": VERIFIER})
        assert answer.status_code == 200, answer.text
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await service.client.get("/api/v1/me", headers=bearer)).json()["email"] == "ann@example.com"
        for used, verifier in ((code, VERIFIER), (await fetch_code(), "w" * 43), ("never", VERIFIER)):
            answer = await service.post("/token/exchange", {"code": used, "code_verifier": verifier})
            assert (answer.status_code, answer.json()["code"]) == (400, "login_code_invalid")
        counted = await count_rows(database)
        assert (counted["sessions"], counted["identity_codes"]) == (1, 0)
        pool_code = await fetch_code()
        await execute(database, "UPDATE identity_codes SET expires_at = now() - interval '1 second'")
        answer = await service.post("/token/exchange", {"code": pool_code, "code_verifier": VERIFIER})
        assert answer.json()["code"] == "login_code_invalid"


@pytest.mark.parametrize(
    ("return_to", "challenge"),
    [
        (RETURN_TO, ""),
        (RETURN_TO, "short"),
        ("", "c" * 43),
        (f"{RETURN_TO}&x=1", "c" * 43),
        ("https://app.example.org/login", "c" * 43),
        ("https://app.example.org.attacker.example/login?from=regsvc", "c" * 43),
        ("HTTPS://app.example.org/login?from=regsvc", "c" * 43),
        ("app.example:/in/else", "c" * 43),
        ("/account", "c" * 43),
        ("javascript:alert(1)", "c" * 43),
    ],
    ids=["none", "short", "no-uri", "longer", "shorter", "host", "case", "path", "relative", "script"],
)
async def test_only_whole_listed_uris_are_returned_to(
    return_to: str, challenge: str, issuer: Issuer, database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        answer = await service.client.get(
            "/login/with/own", params={"return_to": return_to, "code_challenge": challenge}
        )
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        assert "Set-Cookie" not in answer.headers


async def test_an_app_that_is_told_no_hears_it_in_its_uri(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    query = {"return_to": "app.example:/in", "code_challenge": hash_verifier(VERIFIER)}
    issuer.claims = {"nonce": "another"}
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        async with visiting(service) as visitor:
            answer = await visitor.go("own", issuer, query)
            assert answer.headers["Refresh"] == "0;url=app.example:/in?error=identity_refused"
        async with visiting(service) as visitor:
            state = parse_qs(urlsplit(await visitor.depart("own", query)).query)["state"][0]
            action, fields = await visitor.arrive(f"{service.url}/login/with/own/done?error=x&state={state}")
            answer = await visitor.post(action, fields)
            assert answer.headers["Refresh"] == "0;url=app.example:/in?error=access_denied"


async def test_an_address_that_is_only_claimed_begins_a_sign_up_that_the_app_can_watch(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    query = {"return_to": "app.example:/in", "code_challenge": hash_verifier(VERIFIER)}
    issuer.claims = {"email_verified": False}
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        async with visiting(service) as visitor:
            answer = await visitor.go("own", issuer, query)
        code = answer.headers["Refresh"].partition("code=")[2]
        answer = await service.post("/token/exchange", {"code": code, "code_verifier": VERIFIER})
        assert answer.status_code == 202
        url, handle = (
            f"/api/v1/registrations/{answer.json()['id']}",
            {"Regsvc-Handle": answer.json()["handle"]},
        )
        assert (await service.client.get(url, headers=handle)).status_code == 200
        mail = await service.wait_mail("ann@example.com")
        answer = await service.post("/confirm-email", {"token": mail.token})
        assert (answer.status_code, answer.json()["methods"]) == (409, ["code"])
        assert (await service.post("/confirm-email", {"token": mail.token}, handle)).status_code == 200
        counted = await count_rows(database)
        assert (counted["users"], counted["identities"]) == (1, 1)


async def test_identities_are_listed_and_the_last_way_in_stays(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    query = {"return_to": "app.example:/in", "code_challenge": hash_verifier(VERIFIER)}
    async with run_test_service(database, tmp_path, environment(issuer)) as service:

        async def fetch_code() -> dict[str, str]:
            async with visiting(service) as visitor:
                answer = await visitor.go("own", issuer, query)
            return {"code": answer.headers["Refresh"].partition("code=")[2], "code_verifier": VERIFIER}

        tokens = (await service.post("/token/exchange", await fetch_code())).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        [mine] = (await service.client.get("/api/v1/me/identities", headers=bearer)).json()["identities"]
        assert (mine["provider"], mine["email"]) == ("own", "ann@example.com")
        answer = await service.client.delete(f"/api/v1/me/identities/{mine['id']}", headers=bearer)
        assert (answer.status_code, answer.json()["methods"]) == (403, ["identity"])
        issuer.subject = "another"
        answer = await service.post("/me/identities/proof", await fetch_code(), bearer)
        assert (answer.status_code, answer.json()["code"]) == (401, "identity_refused")
        answer = await service.post("/me/identities", await fetch_code(), bearer)
        assert (answer.status_code, answer.json()["code"]) == (403, "proof_needed")
        issuer.subject = "person-1"
        assert (await service.post("/me/identities/proof", await fetch_code(), bearer)).status_code == 200
        answer = await service.client.delete(f"/api/v1/me/identities/{mine['id']}", headers=bearer)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_way_in")
        issuer.subject = "another"
        assert (await service.post("/me/identities", await fetch_code(), bearer)).status_code == 204
        answer = await service.client.delete(f"/api/v1/me/identities/{mine['id']}", headers=bearer)
        assert answer.status_code == 204
        told = [mail.text for mail in service.mails("ann@example.com")]
        with trio.fail_after(20):
            while sum("identit" in text or "panic" in text for text in told) < 3:
                await trio.sleep(0.02)
                told = [mail.text for mail in service.mails("ann@example.com")]
        await service.confirm("bob@example.com")
        bob = await service.log_in("bob@example.com")
        await service.prove(bob)
        answer = await service.client.delete(f"/api/v1/me/identities/{mine['id']}", headers=bob)
        assert answer.status_code == 404


def unlock(text: str) -> str:
    """Return a private key in PEM as an environment variable may hold it."""
    return text.replace("\n", "\\n")


async def test_apple_posts_its_answer_and_gets_a_fresh_client_secret(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    pem = ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    environ = {
        "REGSVC_OIDC_APPLE_ISSUER": issuer.url,
        "REGSVC_OIDC_APPLE_CLIENT_ID": CLIENT_ID,
        "REGSVC_OIDC_APPLE_TEAM_ID": "TEAM",
        "REGSVC_OIDC_APPLE_KEY_ID": "KEY",
        "REGSVC_OIDC_APPLE_PRIVATE_KEY": unlock(pem),
    }
    issuer.claims = {"email_verified": "true", "name": None}
    issuer.any_secret = True
    async with run_test_service(database, tmp_path, environ) as service, visiting(service) as visitor:
        url = await visitor.depart("apple")
        assert dict(parse_qsl(urlsplit(url).query))["response_mode"] == "form_post"
        fields = dict(parse_qsl(urlsplit(issuer.authorize(url)).query))
        fields["user"] = json.dumps(
            {"name": {"firstName": "Ann", "lastName": "Lee"}, "email": "evil@example.com"}
        )
        headers = {"Origin": "https://appleid.apple.com", "Sec-Fetch-Site": "cross-site"}
        async with visiting(service) as cookieless:  # as a browser is in a POST from another site
            answer = await cookieless.client.post("/login/with/apple/done", data=fields, headers=headers)
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        action, shown = read_return(answer)
        assert shown == fields
        assert await count_rows(database) == dict.fromkeys(COUNTED, 0)
        assert (await visitor.post(action, shown)).headers["Location"] == "/account"
        page = (await visitor.client.get("/account")).text
        assert "Ann Lee" in page
        assert "evil@example.com" not in page
    secret = issuer.forms[-1]["client_secret"]
    claims: dict[str, Any] = jwt.decode(secret, ec_key().public_key(), ["ES256"], audience=issuer.url)
    assert jwt.get_unverified_header(secret)["kid"] == "KEY"
    assert (claims["iss"], claims["sub"]) == ("TEAM", CLIENT_ID)
    assert claims["exp"] - claims["iat"] == LIFE <= 15_777_000


async def test_github_has_no_id_token_and_its_primary_verified_address_counts(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    addresses: list[dict[str, Any]] = []
    issuer.replies = {
        "/api/v3/user": lambda: (
            200,
            {},
            b'{"id": 42, "login": "ann", "name": "Ann", "email": "public@x.example"}',
        ),
        "/api/v3/user/emails": lambda: (200, {}, json.dumps(addresses).encode()),
    }
    issuer.github = True
    async with run_test_service(database, tmp_path, provider_environment("GITHUB", issuer)) as service:
        for found, status in (
            ([], 422),
            ([{"email": "a@example.com", "primary": True, "verified": False}], 422),
            ([{"email": "a@example.com", "primary": False, "verified": True}], 422),
            ([{"email": "a@example.com", "primary": "true", "verified": 1}], 422),
            (
                [
                    {"email": each, "primary": True, "verified": True}
                    for each in ("a@x.example", "b@x.example")
                ],
                422,
            ),
            (["a@example.com", None], 422),
            ([{"email": "a@example.com", "primary": True, "verified": True}], 303),
        ):
            addresses[:] = found  # type: ignore[assignment]  # some are none
            async with visiting(service) as visitor:
                answer = await visitor.go("github", issuer)
                assert answer.status_code == status, found
        assert (await count_rows(database))["users"] == 1
        for bad in (b'{"id": "42"}', b'{"id": -1}', b"{}", b'{"id": 42, "id": 43}', b"[]"):
            issuer.replies["/api/v3/user"] = lambda bad=bad: (200, {}, bad)  # type: ignore[misc]
            async with visiting(service) as visitor:
                assert (await visitor.go("github", issuer)).status_code == 401, bad
        assert (await count_rows(database))["users"] == 1


async def test_claims_that_the_id_token_leaves_out_are_asked_for(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    """The word on the address comes from where the address comes from."""
    issuer.claims = {"email": None, "email_verified": True}
    issuer.more = {"email": "ann@example.com", "email_verified": False}
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        async with visiting(service) as visitor:
            assert (await visitor.go("own", issuer)).headers["Location"] == "/signup/status"
        issuer.more["email_verified"] = True
        async with visiting(service) as visitor:
            assert (await visitor.go("own", issuer)).headers["Location"] == "/account"


async def test_no_code_state_token_or_secret_is_in_the_log(
    issuer: Issuer,
    database: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A log that another test configured would have the lines of requests written elsewhere.
    monkeypatch.setattr("regsvc.http.request_log.get_quick_lines", lambda: None)
    query = {"return_to": RETURN_TO, "code_challenge": hash_verifier(VERIFIER)}
    seen: set[str] = {"canary-client-secret"}
    environ = environment(issuer, REGSVC_LOG_LEVEL="debug")
    async with run_test_service(database, tmp_path, environ) as service:
        for claims in ({}, {"nonce": "canary-nonce"}, {"sub": None}):
            issuer.claims = claims
            for asked in (None, query):
                async with visiting(service) as visitor:
                    url = await visitor.depart("own", asked)
                    seen |= {*parse_qs(urlsplit(url).query)["state"], *parse_qs(urlsplit(url).query)["nonce"]}
                    seen |= {*visitor.client.cookies.values()}
                    action, fields = await visitor.arrive(issuer.authorize(url))
                    seen |= {fields["code"]}
                    answer = await visitor.post(action, fields)
                    seen |= {*visitor.client.cookies.values()}
                    seen |= {answer.headers.get("Refresh", "code=canary").rpartition("code=")[2]}
    written = "".join(capfd.readouterr())
    assert "/login/with/own/done" in written
    assert "identity refused" in written
    assert not {each for each in seen - {"own"} if each in written}


async def test_an_identity_joins_the_account_that_asked_and_no_other(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        await service.confirm("bob@example.com")
        await service.confirm("eve@example.com")

        async def log_in(visitor: Any, email: str) -> None:
            answer = await visitor.post("/login", {"email": email, "password": PASSWORD})
            assert answer.headers["Location"] == "/account"
            await execute(database, "UPDATE sessions SET proved_until = now() + interval '5 minutes'")

        async with visiting(service) as bob:
            answer = await bob.client.get("/account/security/identities/with/own")
            assert answer.headers["Location"] == "/login"
            await log_in(bob, "bob@example.com")
            answer = await bob.client.get("/account/security/identities/with/own")
            action, fields = await bob.arrive(issuer.authorize(answer.headers["Location"]))
            await log_in(bob, "eve@example.com")  # meanwhile, in another tab
            assert (await bob.post(action, fields)).status_code == 400
            assert (await count_rows(database))["identities"] == 0
            await log_in(bob, "bob@example.com")
            answer = await bob.client.get("/account/security/identities/with/own")
            action, fields = await bob.arrive(issuer.authorize(answer.headers["Location"]))
            answer = await bob.post(action, fields)
            assert answer.status_code == 303, answer.text
            assert (await count_rows(database))["identities"] == 1
        async with visiting(service) as eve:
            await log_in(eve, "eve@example.com")
            answer = await eve.client.get("/account/security/identities/with/own")
            action, fields = await eve.arrive(issuer.authorize(answer.headers["Location"]))
            answer = await eve.post(action, fields)
            assert (answer.status_code, "another account" in answer.text) == (409, True)


async def test_a_second_factor_is_asked_for_after_a_provider_too(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    query = {"return_to": "app.example:/in", "code_challenge": hash_verifier(VERIFIER)}
    async with run_test_service(
        database, tmp_path, environment(issuer, REGSVC_OIDC_OWN_DOMAINS="example.com")
    ) as service:
        async with visiting(service) as visitor:
            assert (await visitor.go("own", issuer)).headers["Location"] == "/account"
            await execute(
                database,
                "INSERT INTO totp_authenticators (user_id, sealed, sealed_with, last_step) "
                "SELECT id, '', '', 0 FROM users",
            )
        before = await count_rows(database)
        async with visiting(service) as visitor:
            answer = await visitor.go("own", issuer)
            assert answer.headers["Location"] == "/login/second-factor"
            assert "regsvc-session" not in visitor.client.cookies
            answer = await visitor.go("own", issuer, query)
        code = answer.headers["Refresh"].partition("code=")[2]
        answer = await service.post("/token/exchange", {"code": code, "code_verifier": VERIFIER})
        assert (answer.status_code, answer.json()["code"]) == (401, "second_factor_required")
        # Nor is another identity joined to such an account by its address.
        issuer.subject = "another"
        async with visiting(service) as visitor:
            assert (await visitor.go("own", issuer)).status_code == 409
        after = await count_rows(database)
        assert (after["sessions"], after["identities"]) == (before["sessions"], before["identities"])


async def test_the_panic_link_of_a_thiefs_identity_removes_it(
    issuer: Issuer, database: str, tmp_path: Path
) -> None:
    """A thief of a session adds an identity; its owner takes the account back, and the identity logs nobody in."""
    query = {"return_to": "app.example:/in", "code_challenge": hash_verifier(VERIFIER)}
    issuer.claims = {"email": "thief@example.com"}
    async with run_test_service(database, tmp_path, environment(issuer)) as service:
        await service.confirm("ann@example.com")
        stolen = await service.log_in("ann@example.com")
        await service.prove(stolen)
        async with visiting(service) as visitor:
            answer = await visitor.go("own", issuer, query)
        code = answer.headers["Refresh"].partition("code=")[2]
        body = {"code": code, "code_verifier": VERIFIER}
        assert (await service.post("/me/identities", body, stolen)).status_code == 204
        token = await service.wait_link("panic")
        answer = await service.post("/me/panic", {"token": token})
        assert answer.status_code in {200, 204}, answer.text
        assert (await count_rows(database))["identities"] == 0
        async with visiting(service) as visitor:
            await visitor.go("own", issuer)
            assert "ann@example.com" not in (await visitor.client.get("/account")).text
