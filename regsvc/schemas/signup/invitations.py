"""Invitations as administrators see them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from regsvc.accounts.cursor import MAX_PAGE, Position
from regsvc.accounts.invitations.invitation import Invitation
from regsvc.schemas.fields import Body, EmailText
from regsvc.schemas.rows import describe_page, describe_row

PAGE = 50  # invitations a page by default


class InvitationQuery(Body):
    """Which invitations to list."""

    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


InvitationShown = describe_row(Invitation, "InvitationShown")
InvitationPage = describe_page("InvitationPage", "invitations", InvitationShown)
