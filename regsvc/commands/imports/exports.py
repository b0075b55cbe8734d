"""Users in the files that other systems export.

Each reader yields a user as that system has them. A user that it would not let in, or whose address it has not
confirmed, is left out: an account here is of a person who reads the mail of its address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from regsvc.commands.imports.rows import Found, UnreadableFileError

System = Literal["auth0", "django", "firebase", "keycloak", "supabase"]
SYSTEMS: tuple[System, ...] = get_args(System)

UNCONFIRMED, DISABLED = "not confirmed there", "disabled there"

Fields = Mapping[str, Any]
Reader = Callable[[Path, Fields], Iterator[Found]]


def read_auth0(file: Path, _: Fields) -> Iterator[Found]:
    """Yield the users of an export of Auth0 with password hashes: a JSON object a line."""
    for number, user in _read_lines(file):
        reason = DISABLED if user.get("blocked") else None if user.get("email_verified") else UNCONFIRMED
        yield _find(
            f"line {number}",
            user.get("email"),
            _join(user.get("name")) or _join(user.get("given_name"), user.get("family_name")),
            user.get("passwordHash") or user.get("password_hash"),
            created_at=_read_date(user.get("created_at")),
            reason=reason,
        )


def read_supabase(file: Path, _: Fields) -> Iterator[Found]:
    """Yield the users of the table `auth.users` of Supabase as CSV or JSON."""
    for place, user in _read_records(file):
        about = user.get("raw_user_meta_data") or {}
        about = _parse(about) if isinstance(about, str) else about
        gone = user.get("deleted_at") or user.get("banned_until")
        reason = DISABLED if gone else None if user.get("email_confirmed_at") else UNCONFIRMED
        yield _find(
            place,
            user.get("email"),
            _join(about.get("full_name")) or _join(about.get("name")),
            user.get("encrypted_password"),
            created_at=user.get("created_at"),
            reason=reason,
        )


def read_django(file: Path, _: Fields) -> Iterator[Found]:
    """Yield the users of `manage.py dumpdata auth` (with `account` of django-allauth, what it knows of addresses)."""
    records = _read_list(file)
    confirmed = {
        str(fields.get("email")).lower(): fields.get("verified")
        for record in records
        if record.get("model") == "account.emailaddress" and isinstance(fields := record.get("fields"), dict)
    }
    for record in records:
        fields = record.get("fields")
        if not isinstance(fields, dict) or not {"password", "email"} <= fields.keys():
            continue
        stored = str(fields["password"])
        reason = None if fields.get("is_active", True) else DISABLED
        if confirmed.get(str(fields["email"]).lower(), True) is False:
            reason = reason or UNCONFIRMED
        yield _find(
            f"user {record.get('pk')}",
            fields["email"],
            _join(fields.get("name")) or _join(fields.get("first_name"), fields.get("last_name")),
            None if stored.startswith("!") else stored,  # a password that nothing matches
            created_at=fields.get("date_joined"),
            reason=reason,
        )


def read_keycloak(file: Path, _: Fields) -> Iterator[Found]:
    """Yield the users of a realm that Keycloak exported."""
    for number, user in enumerate(_read_list(file, "users"), 1):
        reason = DISABLED if not user.get("enabled", True) else None
        if not user.get("emailVerified"):
            reason = reason or UNCONFIRMED
        kept = [each for each in user.get("credentials") or [] if each.get("type") == "password"]
        yield _find(
            f"user {number}",
            user.get("email"),
            _join(user.get("firstName"), user.get("lastName")),
            _write_keycloak(kept[0]) if kept else None,
            created_at=_read_milliseconds(user.get("createdTimestamp")),
            reason=reason,
        )


def read_firebase(file: Path, parameters: Fields) -> Iterator[Found]:
    """Yield the users of `firebase auth:export --format=json`.

    Args:
        file: the export.
        parameters: of the project's hashes, as `read_hash_config` returns them; none if no user has a password.
    """
    for number, user in enumerate(_read_list(file, "users"), 1):
        stored = None
        if user.get("passwordHash"):
            if not parameters:
                raise UnreadableFileError(
                    "has password hashes: name the file of their parameters (--hash-config)"
                )
            stored = (
                f"$firebase-scrypt$ln={parameters['mem_cost']},r={parameters['rounds']}"
                f"${parameters['base64_salt_separator']}${user.get('salt')}${user['passwordHash']}"
                f"${parameters['base64_signer_key']}"
            )
        reason = DISABLED if user.get("disabled") else None if user.get("emailVerified") else UNCONFIRMED
        yield _find(
            f"user {number}",
            user.get("email"),
            _join(user.get("displayName")),
            stored,
            created_at=_read_milliseconds(user.get("createdAt")),
            reason=reason,
        )


READERS: Mapping[System, Reader] = {
    "auth0": read_auth0,
    "django": read_django,
    "firebase": read_firebase,
    "keycloak": read_keycloak,
    "supabase": read_supabase,
}


def read_hash_config(file: Path) -> dict[str, str]:
    """Return the parameters that the Firebase console shows, `hash_config { … }`.

    Raises:
        UnreadableFileError: one is missing.
    """
    found = dict(re.findall(r"(\w+)\s*:\s*\"?([^\s,\"{}]+)", file.read_text("utf-8", "replace")))
    missing = {"base64_signer_key", "base64_salt_separator", "rounds", "mem_cost"} - found.keys()
    if missing:
        raise UnreadableFileError(f"of hash parameters lacks {', '.join(sorted(missing))}")
    return found


def _find(
    place: str, email: object, name: str, stored: object, *, created_at: object, reason: str | None
) -> Found:
    address = email if isinstance(email, str) else ""
    if not address:
        reason = reason or "no address there"
    values: dict[str, Any] = {"email": address, "name": name or address.partition("@")[0]}
    if stored:
        values["password_hash"] = stored
    if created_at:
        values["created_at"] = created_at
    return Found(place, values, reason)


def _write_keycloak(credential: Fields) -> str:
    """Return a password of Keycloak as a PHC string; one that cannot be, as a text that is no hash."""
    secret, about = (
        _parse(value) if isinstance(value := credential.get(key), str) else value or {}
        for key in ("secretData", "credentialData")
    )
    algorithm, salt, key = about.get("algorithm"), secret.get("salt"), secret.get("value")
    if algorithm == "argon2":
        more = {
            name: values[0] for name, values in (about.get("additionalParameters") or {}).items() if values
        }
        return (
            f"$argon2{more.get('type')}$v=19$m={more.get('memory')},t={about.get('hashIterations')}"
            f",p={more.get('parallelism')}${salt}${key}"
        )
    digest = {"pbkdf2": "sha1", "pbkdf2-sha256": "sha256", "pbkdf2-sha512": "sha512"}.get(str(algorithm))
    return f"$pbkdf2-{digest}$i={about.get('hashIterations')}${salt}${key}"


def _read_lines(file: Path) -> Iterator[tuple[int, Fields]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                user = _parse(line)
                if not isinstance(user, dict):
                    raise UnreadableFileError(f"is not one JSON object a line (line {number})")
                yield number, user


def _read_list(file: Path, key: str | None = None) -> list[dict[str, Any]]:
    found = _parse(file.read_text("utf-8-sig"))
    if key is not None:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UnreadableFileError(f"has no list {key or 'of objects'}")
    return found


def _read_records(file: Path) -> Iterator[tuple[str, Fields]]:
    """Yield the rows of a table, as CSV or as a JSON list."""
    import csv  # noqa: PLC0415 - of one reader

    with file.open(encoding="utf-8-sig", newline="") as text:
        begin = text.read(1)
        text.seek(0)
        if begin == "[":
            for number, record in enumerate(_read_list(file), 1):
                yield f"user {number}", record
            return
        try:
            table = csv.DictReader(text, strict=True)
            if not {"email", "encrypted_password"} <= set(table.fieldnames or []):
                raise UnreadableFileError("has no columns email and encrypted_password")
            for record in table:
                yield f"line {table.line_num}", record
        except csv.Error as error:
            raise UnreadableFileError(f"is not CSV: {error}") from None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"is not JSON: {error}") from None


def _join(*names: object) -> str:
    return " ".join(name.strip() for name in names if isinstance(name, str) and name.strip())


def _read_date(value: object) -> object:
    """Return a date as Auth0 writes it, of which MongoDB's exports are objects."""
    return value.get("$date") if isinstance(value, dict) else value


def _read_milliseconds(value: object) -> datetime | None:
    if not isinstance(value, int | str) or not str(value).isdecimal():
        return None
    try:
        return datetime.fromtimestamp(int(value) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
