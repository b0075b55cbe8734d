"""Users in the export files of other systems log in with the passwords that they had there.

`REGSVC_TEST_IMPORTS=50` has fifty of each log in, `REGSVC_TEST_IMPORTED=100000` imports that many in one transaction.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from regsvc.commands.imports.exports import READERS, System, read_hash_config
from regsvc.commands.imports.rows import Read, UnreadableFileError, read_rows
from regsvc.commands.imports.table import read_table
from regsvc.postgres.pool import Pool
from tests.acceptance.test_user_commands import as_json, regsvc
from tests.services import run_test_service

EACH = int(os.environ.get("REGSVC_TEST_IMPORTS", "2"))
MANY = int(os.environ.get("REGSVC_TEST_IMPORTED", "3000"))

KEY = bytes(range(64))
CONFIG = f"""hash_config {{
  algorithm: SCRYPT,
  base64_signer_key: {base64.b64encode(KEY).decode()},
  base64_salt_separator: Bw==,
  rounds: 8,
  mem_cost: 10,
}}
"""


def password_of(number: int) -> str:
    return f"Paßwort nümber {number}"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def salt_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def make_bcrypt(number: int) -> str:
    return bcrypt.hashpw(password_of(number).encode(), bcrypt.gensalt(4)).decode()


def pbkdf2(number: int, digest: str, iterations: int, length: int) -> bytes:
    salt = salt_of(number)
    return hashlib.pbkdf2_hmac(digest, password_of(number).encode(), salt, iterations, length)


def auth0(numbers: range) -> str:
    users = [
        {
            "_id": {"$oid": f"{number:024x}"},
            "email": f"u{number}@example.com",
            "email_verified": True,
            "name": f"User {number}",
            "passwordHash": make_bcrypt(number),
            "created_at": {"$date": "2023-05-01T12:00:00.000Z"},
            "tenant": "acme",
            "connection": "Username-Password-Authentication",
        }
        for number in numbers
    ]
    users += [users[0] | {"email": "no@example.com", "email_verified": False}]
    users += [users[0] | {"email": "off@example.com", "blocked": True}]
    return "".join(json.dumps(user) + "\n" for user in users)


def supabase(numbers: range) -> str:
    text = io.StringIO()
    names = ["id", "email", "encrypted_password", "email_confirmed_at", "raw_user_meta_data", "created_at"]
    table = csv.DictWriter(text, [*names, "banned_until", "deleted_at"], restval="")
    table.writeheader()
    for number in numbers:
        about = json.dumps({"full_name": f"User {number}"})
        values = [number, f"u{number}@example.com", make_bcrypt(number).replace("$2b$", "$2a$")]
        moments = ["2023-05-01 12:00:00.123+00", about, "2023-05-01 11:59:00+00"]
        table.writerow(dict(zip(names, [*values, *moments], strict=True)))
    table.writerow({"email": "no@example.com", "encrypted_password": make_bcrypt(1)})
    confirmed = {"email_confirmed_at": "2023-05-01 12:00:00+00", "banned_until": "2999-01-01 00:00:00+00"}
    table.writerow({"email": "off@example.com", "encrypted_password": make_bcrypt(1), **confirmed})
    return text.getvalue()


def django_user(number: int) -> dict[str, Any]:
    kind = number % 3
    salt = f"salt{number}"
    typed = password_of(number).encode()
    if kind == 0:
        key = hashlib.pbkdf2_hmac("sha256", typed, salt.encode(), 2000)
        stored = f"pbkdf2_sha256$2000${salt}${b64(key)}"
    elif kind == 1:
        raw = salt_of(number)
        key = Argon2id(salt=raw, length=32, iterations=2, lanes=8, memory_cost=1024).derive(typed)
        stored = f"argon2$argon2id$v=19$m=1024,t=2,p=8${b64(raw).rstrip('=')}${b64(key).rstrip('=')}"
    else:
        digest = hashlib.sha256(typed).hexdigest().encode()
        stored = f"bcrypt_sha256${bcrypt.hashpw(digest, bcrypt.gensalt(4)).decode()}"
    return {
        "model": "auth.user",
        "pk": number,
        "fields": {
            "password": stored,
            "username": f"u{number}",
            "email": f"u{number}@example.com",
            "first_name": "User",
            "last_name": str(number),
            "is_active": True,
            "date_joined": "2023-05-01T12:00:00Z",
        },
    }


def django(numbers: range) -> str:
    users = [django_user(number) for number in numbers]
    for email, active in (("no@example.com", True), ("off@example.com", False)):
        user = django_user(1)
        user["fields"] |= {"email": email, "is_active": active}
        users.append(user)
    group = {"model": "auth.group", "pk": 1, "fields": {"name": "staff", "permissions": []}}
    unproved = {"email": "NO@example.com", "verified": False, "primary": True, "user": 1}
    return json.dumps([group, *users, {"model": "account.emailaddress", "pk": 1, "fields": unproved}])


def keycloak_credential(number: int) -> dict[str, Any]:
    salt = salt_of(number)
    if number % 2:
        key, about = (
            pbkdf2(number, "sha512", 3000, 64),
            {"hashIterations": 3000, "algorithm": "pbkdf2-sha512"},
        )
    else:
        derive = Argon2id(salt=salt, length=32, iterations=5, lanes=1, memory_cost=7168)
        key = derive.derive(password_of(number).encode())
        about = {
            "hashIterations": 5,
            "algorithm": "argon2",
            "additionalParameters": {
                "hashLength": ["32"],
                "memory": ["7168"],
                "type": ["id"],
                "version": ["1.3"],
                "parallelism": ["1"],
            },
        }
    return {
        "type": "password",
        "secretData": json.dumps({"value": b64(key), "salt": b64(salt), "additionalParameters": {}}),
        "credentialData": json.dumps(about),
    }


def keycloak(numbers: range) -> str:
    users: list[dict[str, Any]] = [
        {
            "username": f"u{number}",
            "email": f"u{number}@example.com",
            "emailVerified": True,
            "enabled": True,
            "firstName": "User",
            "lastName": str(number),
            "createdTimestamp": 1_682_942_400_000,
            "credentials": [{"type": "otp"}, keycloak_credential(number)],
        }
        for number in numbers
    ]
    users += [users[0] | {"email": "no@example.com", "emailVerified": False}]
    users += [users[0] | {"email": "off@example.com", "enabled": False}]
    return json.dumps({"realm": "acme", "users": users})


def firebase(numbers: range) -> str:
    users: list[dict[str, Any]] = []
    for number in numbers:
        salt = salt_of(number)
        typed = password_of(number).encode()
        derived = hashlib.scrypt(typed, salt=salt + b"\x07", n=1024, r=8, p=1, dklen=32)
        encryptor = Cipher(algorithms.AES(derived), modes.CTR(bytes(16))).encryptor()
        users.append(
            {
                "localId": str(number),
                "email": f"u{number}@example.com",
                "emailVerified": True,
                "passwordHash": base64.urlsafe_b64encode(encryptor.update(KEY)).decode(),
                "salt": base64.urlsafe_b64encode(salt).decode(),
                "displayName": f"User {number}",
                "createdAt": "1682942400000",
            }
        )
    users += [users[0] | {"email": "no@example.com", "emailVerified": False}]
    users += [users[0] | {"email": "off@example.com", "disabled": True}]
    return json.dumps({"users": users})


EXPORTS: dict[System, Callable[[range], str]] = {
    "auth0": auth0,
    "django": django,
    "firebase": firebase,
    "keycloak": keycloak,
    "supabase": supabase,
}


def write(folder: Path, system: System, text: str) -> list[str]:
    """Write an export and return the arguments that import it."""
    file, config = folder / "export", folder / "hash_config"
    file.write_text(text, "utf-8")
    config.write_text(CONFIG, "utf-8")
    more = ["--hash-config", str(config)] if system == "firebase" else []
    return ["import", "--from", system, str(file), *more]


@pytest.mark.parametrize("system", EXPORTS)
async def test_users_log_in_with_the_passwords_that_they_had(
    database: str, pool: Pool, tmp_path: Path, system: System
) -> None:
    numbers = range(1, max(EACH, 3) + 1)
    told = await as_json(database, *write(tmp_path, system, EXPORTS[system](numbers)))
    assert (told["imported"], told["known"]) == (len(numbers), [])
    assert sorted(line.partition(": ")[2] for line in told["left_out"]) == [
        "disabled there",
        "not confirmed there",
    ]
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "off"}) as service:
        for number in numbers:
            body = {"email": f"u{number}@example.com", "password": password_of(number)}
            for _ in range(2):  # by the imported hash, then by ours
                answer = await service.post("/login", body)
                assert answer.status_code == 200, (number, answer.text)
            wrong = await service.post("/login", body | {"password": "not this one"})
            assert wrong.status_code == 401
        header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        profile = (await service.client.get("/api/v1/me", headers=header)).json()
    assert (profile["name"], profile["created_at"][:10]) == (f"User {numbers[-1]}", "2023-05-01")
    async with pool.connection() as conn:
        stored = await (await conn.execute("SELECT password_hash FROM users")).fetchall()
    assert all(row[0].startswith("$hmac-sha384-bcrypt$") for row in stored)


async def test_a_user_without_a_password_there_chooses_one_here(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    user = json.loads(keycloak(range(1, 2)))["users"][0] | {"credentials": []}
    await as_json(database, *write(tmp_path, "keycloak", json.dumps({"users": [user]})))
    async with run_test_service(database, tmp_path) as service:
        answer = await service.post("/login", {"email": "u1@example.com", "password": ""})
        assert answer.status_code in {400, 401}
        await service.post("/password/forgot", {"email": "u1@example.com"})
        token = (await service.wait_mail("u1@example.com")).token_for("reset")
        chosen = {"token": token, "password": "a password of here"}
        assert (await service.post("/password/reset", chosen)).status_code == 204
        login = {"email": "u1@example.com", "password": "a password of here"}
        assert (await service.post("/login", login)).status_code == 200


def read(tmp_path: Path, system: System, text: str | bytes) -> Read:
    file = tmp_path / "export"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_rows(READERS[system](file, {}), ())


GOOD = json.loads(keycloak(range(1, 2)))["users"][0]


@pytest.mark.parametrize(
    ("system", "text", "problem"),
    [
        ("keycloak", "", "the file is not JSON"),
        ("keycloak", "[]", "the file has no list users"),
        ("keycloak", '{"users": [1]}', "the file has no list users"),
        ("keycloak", "[" * 100_000, "the file is not JSON"),
        ("keycloak", b"\xff", "the file is not UTF-8"),
        ("keycloak", json.dumps({"users": [GOOD | {"email": "x"}]}), "user 1: email: "),
        ("keycloak", json.dumps({"users": [GOOD, GOOD]}), "user 2: email: the address occurs twice"),
        (
            "keycloak",
            json.dumps({"users": [GOOD | {"credentials": [{"type": "password"}]}]}),
            "user 1: password_hash: must be a hash",
        ),
        (
            "keycloak",
            json.dumps({"users": [GOOD | {"createdTimestamp": 32_503_680_000_000}]}),
            "user 1: created_at: must be a time in the past",
        ),
        ("auth0", "[]\n", "the file is not one JSON object a line (line 1)"),
        (
            "auth0",
            '{"email": "a@example.com", "email_verified": true, "passwordHash": "x"}',
            "line 1: password_hash",
        ),
        ("supabase", "id,name\n", "the file has no columns email and encrypted_password"),
        ("supabase", "", "the file has no columns email and encrypted_password"),
        ("supabase", '[{"email": 7, "email_confirmed_at": "x"}]', None),
        ("django", "{}", "the file has no list of objects"),
        (
            "firebase",
            firebase(range(1, 2)),
            "the file has password hashes: name the file of their parameters",
        ),
    ],
)
def test_what_is_wrong_with_an_export_is_said(
    tmp_path: Path, system: System, text: str | bytes, problem: str | None
) -> None:
    problems = read(tmp_path, system, text).problems
    if problem is None:
        assert problems == []
    else:
        assert problems[0].startswith(problem)


def test_hash_parameters_that_lack_one_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(CONFIG)
    assert read_hash_config(file)["mem_cost"] == "10"
    file.write_text(CONFIG.replace("rounds", "grounds"))
    with pytest.raises(UnreadableFileError, match="lacks rounds"):
        read_hash_config(file)


async def test_one_bad_user_stops_the_whole_or_is_left_out_as_asked(database: str, tmp_path: Path) -> None:
    users = {"users": [GOOD, GOOD | {"email": "x"}]}
    arguments = write(tmp_path, "keycloak", json.dumps(users))
    done = await regsvc(database, *arguments, code=1)
    assert b"user 2: email: " in done.stderr
    assert (await as_json(database, "list"))["users"] == []
    told = json.loads((await regsvc(database, *arguments, "--skip-invalid", "--json", code=1)).stdout)
    assert (told["imported"], len(told["invalid"])) == (1, 1)


async def test_many_users_are_imported_in_one_transaction(database: str, pool: Pool, tmp_path: Path) -> None:
    table = tmp_path / "users.csv"
    stored = make_bcrypt(1)
    with table.open("w", encoding="utf-8") as text:
        text.write("email,name,password_hash\n")
        text.writelines(f"u{number}@example.com,User {number},{stored}\n" for number in range(MANY))
    assert len(read_rows(read_table(table), ()).users) == MANY
    assert (await as_json(database, "import", str(table)))["imported"] == MANY
    async with pool.connection() as conn:
        rows = await (await conn.execute("SELECT count(*), count(DISTINCT xmin::text) FROM users")).fetchall()
    assert rows == [(MANY, 1)]
