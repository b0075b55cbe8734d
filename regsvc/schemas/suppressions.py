"""Suppressed addresses as the console asks for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from regsvc.accounts.cursor import Position
from regsvc.schemas.fields import Body, EmailText


class SuppressionQuery(Body):
    """Which suppressed addresses to list."""

    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
