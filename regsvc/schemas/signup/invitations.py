"""Invitations as administrators see them."""

from __future__ import annotations

from regsvc.accounts.invitations.invitation import Invitation
from regsvc.schemas.fields import PAGE, Body, Cursor, EmailText, Limit
from regsvc.schemas.rows import describe_page, describe_row


class InvitationQuery(Body):
    """Which invitations to list."""

    address: EmailText | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


InvitationShown = describe_row(Invitation, "InvitationShown")
InvitationPage = describe_page("InvitationPage", "invitations", InvitationShown)
