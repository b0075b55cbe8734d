"""The least that a FastAPI service with asyncpg must do: sign up, log in, `GET /me`. bcrypt in a thread.

Settings: PEER_DATABASE (a libpq URI), PEER_COST (of bcrypt), PEER_SMTP (host:port; empty: no mail).
"""

import os
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Annotated
from uuid import UUID, uuid4

import aiosmtplib
import asyncpg
import bcrypt
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY, email text UNIQUE NOT NULL, name text NOT NULL, password_hash text NOT NULL,
    disabled_at timestamptz, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS sessions (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, expires_at timestamptz NOT NULL, ended_at timestamptz);
"""
ME = """
SELECT u.id, u.email, u.name, u.created_at FROM sessions s JOIN users u ON u.id = s.user_id AND u.disabled_at IS NULL
 WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > now()
"""
COST = int(os.environ["PEER_COST"])
KEY = Ed25519PrivateKey.generate()
HASHING = ThreadPoolExecutor(os.cpu_count())


class SignUp(BaseModel):
    email: str
    password: str
    name: str


class LogIn(BaseModel):
    email: str
    password: str


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["PEER_DATABASE"], min_size=4, max_size=8) as app.state.pool:
        await app.state.pool.execute(SCHEMA)
        yield


app = FastAPI(lifespan=lifespan)


async def hashing(function, *arguments):
    return await get_running_loop().run_in_executor(HASHING, function, *arguments)


def session_id(authorization: Annotated[str, Header()]) -> UUID:
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), KEY.public_key(), algorithms=["EdDSA"])
        return UUID(claims["sid"])
    except (jwt.PyJWTError, KeyError, ValueError):
        raise HTTPException(401) from None


async def send(address: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "peer@example.org", address, "Confirm"
    message.set_content("https://example.org/confirm")
    host, _, port = os.environ["PEER_SMTP"].partition(":")
    await aiosmtplib.send(message, hostname=host, port=int(port), start_tls=False)


@app.post("/register", status_code=201)
async def register(body: SignUp, tasks: BackgroundTasks):
    digest = await hashing(bcrypt.hashpw, body.password.encode(), bcrypt.gensalt(COST))
    insert = "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, $4)"
    await app.state.pool.execute(insert, uuid4(), body.email, body.name, digest.decode())
    if os.environ.get("PEER_SMTP"):
        tasks.add_task(send, body.email)
    return {}


@app.post("/login")
async def log_in(body: LogIn):
    user = await app.state.pool.fetchrow("SELECT id, password_hash FROM users WHERE email = $1", body.email)
    if user is None or not await hashing(
        bcrypt.checkpw, body.password.encode(), user["password_hash"].encode()
    ):
        raise HTTPException(401)
    session, now = uuid4(), datetime.now(UTC)
    insert = "INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, $3)"
    await app.state.pool.execute(insert, session, user["id"], now + timedelta(days=30))
    claims = {"sub": str(user["id"]), "sid": str(session), "iat": now, "exp": now + timedelta(minutes=10)}
    return {"access_token": jwt.encode(claims, KEY, algorithm="EdDSA")}


@app.get("/me")
async def me(session: Annotated[UUID, Depends(session_id)]):
    user = await app.state.pool.fetchrow(ME, session)
    if user is None:
        raise HTTPException(401)
    return dict(user)
