"""Chromium's virtual authenticator (its DevTools protocol, domain WebAuthn): a device with passkeys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page


@dataclass
class Device:
    """An authenticator that the browser has built in, whose user touches it at once.

    Args:
        session: to the page that it is for.
        id: of the authenticator.
    """

    session: CDPSession
    id: str

    def passkeys(self) -> list[dict[str, Any]]:
        """Return the passkeys on it."""
        found = self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})
        credentials: list[dict[str, Any]] = found["credentials"]
        return credentials

    def refuse(self) -> None:
        """Have its user turn out to be another."""
        self.session.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": False})

    def wait(self) -> None:
        """Have its user not touch it."""
        self._simulate(present=False)

    def touch(self) -> None:
        """Have its user touch it."""
        self._simulate(present=True)

    def _simulate(self, *, present: bool) -> None:
        self.session.send(
            "WebAuthn.setAutomaticPresenceSimulation", {"authenticatorId": self.id, "enabled": present}
        )

    def give(self, credential: dict[str, Any]) -> None:
        """Put a passkey of another device on it, as those that sync do."""
        self.session.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": credential})


def add_device(page: Page) -> Device:
    """Add an authenticator to the browser of a page."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    added = session.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    return Device(session, added["authenticatorId"])
