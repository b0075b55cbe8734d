"""The check that every new password passes."""

from __future__ import annotations

from regsvc.errors import FieldError, WeakPasswordError
from regsvc.flows.service import Service
from regsvc.security.policy import find_weaknesses


async def check_new_password(
    service: Service, password: str, *, email: str, name: str, field: str = "password"
) -> None:
    """Check a password against the operator's policy.

    Args:
        service: has the policy.
        password: as typed.
        email: of the account.
        name: of the account.
        field: of the body that the password stood in.

    Raises:
        WeakPasswordError: saying everything that is wrong with it.
    """
    weaknesses = await find_weaknesses(service.settings, password, email=email, name=name)
    if weaknesses:
        raise WeakPasswordError(
            weaknesses[0].detail, fields=[FieldError(f"/{field}", w.code, w.detail) for w in weaknesses]
        )
