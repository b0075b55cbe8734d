"""What other services ask about tokens: introspection, revocation, the issuer's metadata, the user of a token."""

from __future__ import annotations

from typing import Any

import httpx
import jwt
import pytest

from regsvc.accounts.audit.record import By
from regsvc.accounts.service_tokens.service_token import create_token
from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service


async def mint(pool: Pool) -> dict[str, str]:
    async with pool.transaction() as conn:
        _, text = await create_token(conn, "gateway", ["tokens:introspect"], None, By("operator"))
    return {"Authorization": f"Bearer {text}"}


async def log_in(service: Service) -> dict[str, str]:
    await service.confirm()
    answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})
    tokens: dict[str, str] = answer.json()
    return tokens


async def introspect(service: Service, header: dict[str, str], token: str) -> Any:
    answer = await service.client.post("/oauth/introspect", data={"token": token}, headers=header)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


async def revoke(service: Service, token: str) -> httpx.Response:
    return await service.client.post("/oauth/revoke", data={"token": token, "token_type_hint": "any"})


async def test_both_tokens_of_a_session_are_active_until_it_ends(service: Service, pool: Pool) -> None:
    header, tokens = await mint(pool), await log_in(service)
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    about = {name: claims[name] for name in ("iss", "aud", "sub", "sid", "role")}
    access = await introspect(service, header, tokens["access_token"])
    assert access == {"active": True, "token_type": "access_token", "exp": claims["exp"], **about}
    refresh = await introspect(service, header, tokens["refresh_token"])
    assert {name: refresh[name] for name in about} == about
    assert (refresh["active"], refresh["token_type"]) == (True, "refresh_token")
    assert abs(refresh["exp"] - claims["iat"] - tokens["refresh_expires_in"]) <= 60
    await service.client.post("/api/v1/logout", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    for name in ("access_token", "refresh_token"):
        assert await introspect(service, header, tokens[name]) == {"active": False}


async def test_a_spent_refresh_token_and_what_is_no_token_are_not_active(
    service: Service, pool: Pool
) -> None:
    header, tokens = await mint(pool), await log_in(service)
    await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    for text in (tokens["refresh_token"], "", "x", "a.b.c", header["Authorization"][7:], "é" * 50):
        assert await introspect(service, header, text) == {"active": False}


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
async def test_revoking_a_token_ends_its_session(service: Service, pool: Pool, name: str) -> None:
    header, tokens = await mint(pool), await log_in(service)
    for _ in range(2):  # the second time it is not good any more, and answered alike
        answer = await revoke(service, tokens[name])
        assert (answer.status_code, answer.content) == (200, b"")
    for each in ("access_token", "refresh_token"):
        assert await introspect(service, header, tokens[each]) == {"active": False}
    refreshed = await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    assert refreshed.status_code == 401


async def test_an_old_refresh_token_revokes_nothing(service: Service, pool: Pool) -> None:
    """It may be a thief's copy, but also a client's that retries: only the refresh call decides about it."""
    header, tokens = await mint(pool), await log_in(service)
    newer = (await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})).json()
    assert (await revoke(service, tokens["refresh_token"])).status_code == 200
    assert (await introspect(service, header, newer["refresh_token"]))["active"] is True


async def test_only_a_service_with_the_scope_may_ask(service: Service, pool: Pool) -> None:
    tokens = await log_in(service)
    async with pool.transaction() as conn:
        _, other = await create_token(conn, "billing", ["users:read"], None, By("operator"))
    for text, status in ((None, 401), (tokens["access_token"], 401), (other, 403)):
        header = {} if text is None else {"Authorization": f"Bearer {text}"}
        answer = await service.client.post("/oauth/introspect", data={"token": "x"}, headers=header)
        assert answer.status_code == status
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 400),
        (b"token=a&token=b", "application/x-www-form-urlencoded", 400),
        (b"token_type_hint=access_token", "application/x-www-form-urlencoded", 400),
        (b"token=" + b"a" * 5000, "application/x-www-form-urlencoded", 400),
        (b"&".join(b"f%d=1" % n for n in range(40)), "application/x-www-form-urlencoded", 400),
        (b'{"token": "a"}', "application/json", 415),
        (b"token=%FF%00", "application/x-www-form-urlencoded", 200),
    ],
    ids=["empty", "twice", "only a hint", "too long", "many fields", "json", "no text"],
)
async def test_a_form_that_says_no_token_is_refused(
    service: Service, pool: Pool, body: bytes, content_type: str, status: int
) -> None:
    header = await mint(pool)
    for path in ("/oauth/introspect", "/oauth/revoke"):
        answer = await service.client.post(
            path, content=body, headers={**header, "Content-Type": content_type}
        )
        assert answer.status_code == status, answer.text


async def test_from_the_issuer_to_a_verified_token(service: Service) -> None:
    tokens = await log_in(service)
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    found = {}
    for name in ("oauth-authorization-server", "openid-configuration"):
        answer = await service.client.get(f"/.well-known/{name}")
        assert answer.headers["Cache-Control"] == "public, max-age=600"
        found[name] = answer.content
    assert len(set(found.values())) == 1
    issuer = answer.json()
    assert issuer["issuer"] == claims["iss"]
    keys = (await service.client.get(issuer["jwks_uri"].removeprefix(claims["iss"]))).json()["keys"]
    kid = jwt.get_unverified_header(tokens["access_token"])["kid"]
    (key,) = (jwt.PyJWK(each) for each in keys if each["kid"] == kid)
    verified = jwt.decode(
        tokens["access_token"],
        key,
        algorithms=issuer["id_token_signing_alg_values_supported"],
        audience=issuer["issuer"],
        issuer=issuer["issuer"],
    )
    assert verified == claims
    for name in [each for each in issuer if each.endswith(("_endpoint", "_documentation"))]:
        answer = await service.client.get(issuer[name].removeprefix(claims["iss"]))
        assert answer.status_code in {200, 401, 405}, name  # not 404: each exists


async def test_the_user_of_a_token_is_shown_while_the_session_lives(service: Service) -> None:
    tokens = await log_in(service)
    header = {"Authorization": f"Bearer {tokens['access_token']}"}
    answer = await service.client.get("/userinfo", headers=header)
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert answer.json() == {
        "sub": claims["sub"],
        "email": "ann@example.com",
        "email_verified": True,
        "name": "Ann",
        "locale": "en",
    }
    await service.client.post("/api/v1/logout", headers=header)
    assert (await service.client.get("/userinfo", headers=header)).status_code == 401
