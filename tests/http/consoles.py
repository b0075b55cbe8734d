"""Administrators at the console, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.databases import run_sql
from tests.services import PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.visits import Person, Visit


def set_role(person: Person, role: str) -> None:
    """Give a person a role."""
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"UPDATE users SET role = '{role}' WHERE email = '{person.address}'",
    )


def log_in(here: Visit, person: Person) -> Page:
    """Log in and return the account page."""
    page = here.open(f"{person.program.url}/login")
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    return page
