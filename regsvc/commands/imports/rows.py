"""A user of another system, checked, whatever file it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from regsvc.accounts.admin.user_actions import NewUser
from regsvc.mail.message.languages import FALLBACK, LOCALES
from regsvc.schemas.fields import Body, EmailText, NameText, address_of
from regsvc.security.imported.hashes import LONGEST
from regsvc.security.no_password import mint_no_password
from regsvc.security.passwords import is_migrated_hash


def _check_hash(text: str) -> str:
    if not is_migrated_hash(text):
        raise PydanticCustomError("hash", "must be a hash of a known scheme, of a cost that is computed here")
    return text


def _check_locale(text: str) -> str:
    if text not in LOCALES:
        raise PydanticCustomError("locale", "must be one of {locales}", {"locales": ", ".join(LOCALES)})
    return text


def _read_moment(text: object) -> datetime:
    try:
        moment = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment > datetime.now(UTC):
        raise PydanticCustomError("moment", "must be a time in the past, such as 2020-02-29T12:00:00Z")
    return moment


class Row(Body):
    """A user as another system has them. Without a hash, they choose a password by the reset."""

    email: EmailText
    name: NameText
    password_hash: (
        Annotated[str, StringConstraints(max_length=LONGEST), AfterValidator(_check_hash)] | None
    ) = None
    created_at: Annotated[datetime, BeforeValidator(_read_moment)] | None = None
    locale: Annotated[str, AfterValidator(_check_locale)] = FALLBACK


@dataclass(frozen=True)
class Found:
    """A user in a file, before any check.

    Args:
        place: where, such as `line 3`.
        values: as `Row` takes them.
        reason: why this user is left out, such as `not confirmed`; None for one to import.
        problem: why this is no user at all.
    """

    place: str
    values: dict[str, Any]
    reason: str | None = None
    problem: str | None = None


class UnreadableFileError(ValueError):
    """The file as a whole is not what the other system writes."""


@dataclass
class Read:
    """What a file has.

    Args:
        users: to import, in the order of the file.
        problems: each with its place; those of the whole file begin with `the file`.
        left_out: users that the other system itself would not let in, each with its place.
    """

    users: list[NewUser] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def fails_as_a_whole(self) -> bool:
        """Return whether there is a problem that leaving out a line does not mend."""
        return any(problem.startswith("the file") for problem in self.problems)


def read_rows(found: Iterable[Found], local_domains: Collection[str]) -> Read:
    """Return the users of a file that are to be imported, and what is wrong with the others.

    Args:
        found: the users of the file, in its order.
        local_domains: as for `parse_address`.
    """
    read, users = Read(), dict[str, NewUser]()
    try:
        for each in found:
            if each.problem is not None:
                read.problems.append(f"{each.place}: {each.problem}")
                continue
            if each.reason is not None:
                read.left_out.append(f"{each.place}: {each.reason}")
                continue
            try:
                row = Row.model_validate(each.values, context={"local_domains": local_domains})
            except ValidationError as error:
                read.problems += [
                    f"{each.place}: {problem['loc'][0]}: {problem['msg']}"
                    for problem in error.errors(include_url=False, include_input=False, include_context=False)
                ]
                continue
            key = address_of(row.email).key
            if key in users:
                read.problems.append(f"{each.place}: email: the address occurs twice")
                continue
            users[key] = _make_user(row)
    except UnreadableFileError as error:
        read.problems.append(f"the file {error}")
    except UnicodeDecodeError:
        read.problems.append("the file is not UTF-8")
    read.users += users.values()
    return read


def _make_user(row: Row) -> NewUser:
    address = address_of(row.email)
    return NewUser(
        email=address.email,
        email_key=address.key,
        name=row.name,
        locale=row.locale,
        role="user",
        password_hash=row.password_hash or mint_no_password(),
        created_at=row.created_at,
    )
