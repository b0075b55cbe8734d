"""Message composition: links and codes are derived and filled into the template of the kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from regsvc.accounts.invitations import invitation
from regsvc.accounts.invitations.acceptance import mint_invitation_token
from regsvc.accounts.invitations.letters import InvitationLetter
from regsvc.accounts.mails.account_mails import AccountLetter
from regsvc.accounts.mails.legacy import LegacyLetter
from regsvc.accounts.mails.turns import AnyLetter
from regsvc.accounts.registrations.login_code import LOGIN_CODE
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.accounts.registrations.registration import LINK_LIFE, LOGIN_CODE_LIFE
from regsvc.mail.envelope import Envelope
from regsvc.mail.message.kinds import (
    ACCOUNT_KINDS,
    EmailChangeMail,
    InvitationMail,
    LinkedMail,
    LoginCodeMail,
    NoAccountMail,
    SecurityChangedMail,
    WarningMail,
)
from regsvc.mail.message.render import AccountExistsMail, ConfirmMail, LegacyConfirmMail, Mail, Renderer
from regsvc.security.feedback.return_paths import mint_return_path
from regsvc.security.tokens import Secrets, mint_code, mint_link_token

Announce = Callable[[Letter | InvitationLetter, str, str], None]
"""Is told letter, link and code (if there is one) of a mail that was sent; in `dev` alone."""


@dataclass(frozen=True)
class LetterWriter:
    """Compose messages.

    Args:
        secrets: derive links and codes.
        renderer: fills the templates.
        sender: envelope sender, a bare address.
        return_path: address whose tagged forms are the envelope senders instead; None without one.
        public_url: base URL of links; never taken from a request.
        announcer: receives link and code once a message is accepted.
    """

    secrets: Secrets
    renderer: Renderer
    sender: str
    public_url: str
    announcer: Announce | None = None
    return_path: str | None = None

    def write(self, letter: AnyLetter, dated: datetime | None = None) -> Envelope:
        """Return the message of a letter, with the same octets in every attempt.

        Args:
            letter: recipient and contents.
            dated: for the header Date: when the mail was requested; None means now.
        """
        data = self.renderer.render(
            self._mail(letter),
            mail_id=letter.mail_id,
            recipient=letter.email,
            locale=letter.locale,
            now=dated or datetime.now(UTC),
        )
        sender = self.sender
        if self.return_path is not None:
            sender = mint_return_path(self.secrets, self.return_path, letter.mail_id)
        return Envelope(sender=sender, recipient=letter.email, data=data, envid=str(letter.mail_id))

    def _mail(self, letter: AnyLetter) -> Mail:
        if isinstance(letter, LegacyLetter):
            return LegacyConfirmMail(link=f"{self.public_url}/confirm#t={letter.open_token(self.secrets)}")
        if isinstance(letter, AccountLetter):
            return self._account_mail(letter)
        if letter.sent_as == "account_exists":
            return AccountExistsMail(
                occurred_at=letter.created_at,
                origin=letter.origin,
                client=letter.client,
                login_link=f"{self.public_url}/login",
                reset_link=f"{self.public_url}/forgot",
            )
        if isinstance(letter, InvitationLetter):
            return InvitationMail(
                occurred_at=letter.created_at,
                origin=letter.origin,
                client=letter.client,
                link=self._invitation_link(letter),
                valid_for=invitation.LIFE // InvitationMail.unit,
            )
        if letter.is_login:
            return self._login_mail(letter)
        token = mint_link_token(self.secrets, letter.registration_id, letter.email_key)
        return ConfirmMail(
            link=f"{self.public_url}/confirm#t={token}",
            code=mint_code(self.secrets, letter.mail_id, letter.email_key),
            not_me_link=f"{self.public_url}/not-me#t={token}",
            occurred_at=letter.created_at,
            origin=letter.origin,
            client=letter.client,
            valid_hours=int(LINK_LIFE.total_seconds() // 3600),
        )

    def _login_mail(self, letter: Letter) -> Mail:
        told: dict[str, Any] = {
            "occurred_at": letter.created_at,
            "origin": letter.origin,
            "client": letter.client,
        }
        if letter.sent_as == "no_account":
            return NoAccountMail(**told, signup_link=f"{self.public_url}/signup")
        minutes = int(LOGIN_CODE_LIFE.total_seconds() // 60)
        return LoginCodeMail(**told, code=self._login_code(letter), valid_minutes=minutes)

    def _login_code(self, letter: Letter) -> str:
        return mint_code(self.secrets, letter.mail_id, letter.email_key, LOGIN_CODE)

    def _invitation_link(self, letter: InvitationLetter) -> str:
        token = mint_invitation_token(self.secrets, letter.invitation_id, letter.email_key)
        return f"{self.public_url}/invite#t={token}"

    def _account_mail(self, letter: AccountLetter) -> Mail:
        kind = ACCOUNT_KINDS[letter.sent_as]
        if issubclass(kind, WarningMail):
            return kind(
                occurred_at=letter.created_at,
                origin=letter.origin,
                client=letter.client,
                forgot_link=f"{self.public_url}/forgot",
            )
        if not issubclass(kind, LinkedMail):
            return kind(occurred_at=letter.created_at, origin=letter.origin, client=letter.client)
        token, life = letter.mint_link(self.secrets)
        more: dict[str, Any] = {}
        if issubclass(kind, EmailChangeMail):
            more = {
                "account_email": letter.account_email,
                "account_since": letter.account_since,
                "not_me_link": f"{self.public_url}/email-not-me#t={token}",
            }
        elif issubclass(kind, SecurityChangedMail):
            more = {"about": letter.about or ""}
        return kind(
            occurred_at=letter.created_at,
            origin=letter.origin,
            client=letter.client,
            link=f"{self.public_url}/{kind.page}#t={token}",
            valid_for=life // kind.unit,
            **more,
        )

    def announce(self, letter: AnyLetter) -> None:
        """Announce what an accepted mail brought: link and code of a sign-up, a login code, or an invitation's link."""
        if self.announcer is None:
            return
        if isinstance(letter, InvitationLetter) and letter.sent_as == "invitation":
            self.announcer(letter, self._invitation_link(letter), "")
        elif isinstance(letter, Letter) and letter.sent_as == "confirm":
            token = mint_link_token(self.secrets, letter.registration_id, letter.email_key)
            link = f"{self.public_url}/confirm#t={token}"
            self.announcer(letter, link, mint_code(self.secrets, letter.mail_id, letter.email_key))
        elif isinstance(letter, Letter) and letter.sent_as == "login_code":
            self.announcer(letter, f"{self.public_url}/login/code", self._login_code(letter))
