"""fastapi-users as its documentation sets it up: SQLAlchemy on asyncpg, tokens stored in the database, bcrypt.

Settings: PEER_DATABASE (a SQLAlchemy URL), PEER_COST (of bcrypt), PEER_SMTP (host:port; empty: no mail).
"""

import os
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Annotated
from uuid import UUID

import aiosmtplib
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users.authentication.strategy.db import AccessTokenDatabase, DatabaseStrategy
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import (
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTableUUID,
)
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

engine = create_async_engine(os.environ["PEER_DATABASE"])
sessions = async_sessionmaker(engine, expire_on_commit=False)
helper = PasswordHelper(PasswordHash((BcryptHasher(rounds=int(os.environ["PEER_COST"])),)))


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    pass


async def get_session():
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_users(session: Session):
    yield SQLAlchemyUserDatabase(session, User)


async def get_tokens(session: Session):
    yield SQLAlchemyAccessTokenDatabase(session, AccessToken)


class Manager(UUIDIDMixin, BaseUserManager[User, UUID]):
    async def on_after_register(self, user, request=None):
        if not os.environ.get("PEER_SMTP"):
            return
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "peer@example.org", user.email, "Confirm"
        message.set_content("https://example.org/confirm")
        host, _, port = os.environ["PEER_SMTP"].partition(":")
        await aiosmtplib.send(message, hostname=host, port=int(port), start_tls=False)


async def get_manager(users: Annotated[SQLAlchemyUserDatabase, Depends(get_users)]):
    yield Manager(users, helper)


def get_strategy(tokens: Annotated[AccessTokenDatabase, Depends(get_tokens)]):
    return DatabaseStrategy(tokens, lifetime_seconds=3600)


backend = AuthenticationBackend(
    name="tokens", transport=BearerTransport(tokenUrl="login"), get_strategy=get_strategy
)
kit = FastAPIUsers[User, UUID](get_manager, [backend])


@asynccontextmanager
async def lifespan(_app: FastAPI):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)
app.include_router(kit.get_register_router(schemas.BaseUser[UUID], schemas.BaseUserCreate))
app.include_router(kit.get_auth_router(backend))
current = kit.current_user(active=True)


@app.get("/me")
async def me(user: Annotated[User, Depends(current)]):
    return {"id": user.id, "email": user.email}
