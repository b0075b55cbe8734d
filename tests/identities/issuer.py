"""An identity provider of the tests' own: real HTTP on loopback, honest until a test makes it hostile.

Every answer is a member that a test may replace: the metadata, the keys, the tokens, the ID token's header, claims and
signature.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT_ID = "client-of-tests"
CLIENT_SECRET = "canary-client-secret"

Reply = tuple[int, dict[str, str], bytes]


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a key, the same for the same number."""
    return rsa.generate_private_key(65_537, bits)


@cache
def ec_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """Return a key of P-256, the same for the same number."""
    return ec.generate_private_key(ec.SECP256R1())


def encode(data: bytes) -> str:
    """Return unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_jwk(key: rsa.RSAPrivateKey, kid: str = "one") -> dict[str, Any]:
    """Return the public half of a key as a JWK."""
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": kid, "use": "sig", "alg": "RS256"}


@dataclass
class Login:
    """One authorization request that was granted."""

    nonce: str
    challenge: str
    redirect_uri: str
    used: int = 0


@dataclass
class Issuer:
    """An OpenID provider on a loopback port.

    Args:
        claims: of the person who logs in, over the usual ones; None takes a claim away.
        subject: the person's id.
        metadata: over the usual ones; None takes a member away.
        sign: makes an ID token of header and claims.
        replies: what paths answer instead, as a whole.
        more: claims that only the userinfo endpoint tells.
        answers_once: a code is redeemed once, as it should be.
        names_itself: its answers have `iss`.
        any_secret: it takes any client secret, for a test to look at.
        github: it is no OpenID provider, but speaks GitHub's OAuth.
    """

    claims: dict[str, Any] = field(default_factory=dict)
    subject: str = "person-1"
    metadata: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[dict[str, Any], dict[str, Any]], str] | None = None
    replies: dict[str, Callable[[], Reply]] = field(default_factory=dict)
    keys: list[dict[str, Any]] | None = None
    answers_once: bool = True
    more: dict[str, Any] = field(default_factory=dict)
    names_itself: bool = True
    any_secret: bool = False
    github: bool = False
    url: str = ""
    logins: dict[str, Login] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Issuer]:
        """Listen as long as the block lasts."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        server.handle_error = self._note_failure  # type: ignore[method-assign,assignment]
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            server.shutdown()
            server.server_close()
            thread.join()
        assert self.failures == []

    def _note_failure(self, *_: object) -> None:
        """Note a fault of this issuer; clients that hang up are none."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.failures.append(repr(error))

    def authorize(self, url: str) -> str:
        """Return where a browser with this authorization request is led once its person has agreed."""
        asked = dict(parse_qsl(urlsplit(url).query))
        assert asked["code_challenge_method"] == "S256"
        code = f"canary-code-{secrets.token_urlsafe(24)}"
        self.logins[code] = Login(asked.get("nonce", ""), asked["code_challenge"], asked["redirect_uri"])
        answer = {"code": code, "state": asked["state"]}
        if self.names_itself and not self.github:
            answer["iss"] = self.url
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def describe(self) -> dict[str, Any]:
        """Return the metadata."""
        usual = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return {name: value for name, value in {**usual, **self.metadata}.items() if value is not None}

    def redeem(self, form: dict[str, str], authorization: str) -> Reply:
        """Return the tokens for a code."""
        login = self.logins.get(form.get("code", ""))
        kind, _, pair = authorization.partition(" ")
        known = base64.b64decode(pair).decode().split(":") if kind == "Basic" else []
        if not known:
            known = [form.get("client_id", ""), form.get("client_secret", "")]
        challenge = encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        good = (
            login is not None
            and (self.any_secret or [unquote_plus(text) for text in known] == [CLIENT_ID, CLIENT_SECRET])
            and (login.used == 0 or not self.answers_once)
            and login.challenge == challenge
            and login.redirect_uri == form.get("redirect_uri")
        )
        if login is None or not good:
            return 400, {}, b'{"error": "invalid_grant"}'
        login.used += 1
        access_token = secrets.token_urlsafe(24)
        tokens = {
            "access_token": access_token,
            "token_type": "Bearer",
        }
        if not self.github:
            tokens["id_token"] = self.make_id_token(login.nonce, access_token)
        return 200, {}, json.dumps(tokens).encode()

    def make_id_token(self, nonce: str, access_token: str) -> str:
        """Return an ID token."""
        now = int(time.time())
        digest = hashlib.sha256(access_token.encode()).digest()
        usual = {
            "iss": self.url,
            "sub": self.subject,
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "nonce": nonce,
            "at_hash": encode(digest[:16]),
            "email": "ann@example.com",
            "email_verified": True,
            "name": "Ann",
        }
        claims = {name: value for name, value in {**usual, **self.claims}.items() if value is not None}
        header = {"kid": "one", **self.header}
        header = {name: value for name, value in header.items() if value is not None}
        if self.sign is not None:
            return self.sign(header, claims)
        return jwt.encode(claims, rsa_key(), "RS256", headers=header)

    def answer(self, method: str, path: str, query: str, body: bytes, authorization: str) -> Reply:
        """Return the answer to a request."""
        self.requests.append(f"{method} {path}")
        if path in self.replies:
            return self.replies[path]()
        if path in {"/token", "/login/oauth/access_token"}:
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            self.forms.append(form)
            return self.redeem(form, authorization)
        if path == "/authorize":
            return 303, {"Location": self.authorize(f"{self.url}/authorize?{query}")}, b""
        documents = {
            "/.well-known/openid-configuration": self.describe(),
            "/jwks": {"keys": [public_jwk(rsa_key())] if self.keys is None else self.keys},
            "/userinfo": {"sub": self.subject, **self.more},
        }
        return (200 if path in documents else 404), {}, json.dumps(documents.get(path, {})).encode()


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, data = issuer.answer(
                self.command, url.path, url.query, body, self.headers.get("Authorization", "")
            )
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # a client that has read enough

        do_GET = do_POST = _answer  # noqa: N815 - as the library calls them

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def provider_environment(name: str, issuer: Issuer, **more: str) -> dict[str, str]:
    """Return the settings of an issuer as a provider of this name."""
    parts = {"ISSUER": issuer.url, "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET, **more}
    return {f"REGSVC_OIDC_{name}_{part}": value for part, value in parts.items()}
