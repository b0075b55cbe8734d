"""`regsvc mail route`: which way a mail to an address would go, and why."""

from __future__ import annotations

from typing import Any

import click
import structlog

from regsvc.accounts.address import find_key
from regsvc.commands.runner import ACTOR, load_operation, open_database, print_json, printable, run_command
from regsvc.config.mail_url import parse_mail_urls
from regsvc.errors import ConfigurationError
from regsvc.logs import mask_email
from regsvc.mail.queue.breaker import get_breaker
from regsvc.mail.queue.families import family_key, load_held
from regsvc.mail.queue.remedies import find_remedy
from regsvc.mail.queue.route_breakers import load_routes
from regsvc.mail.queue.verdict import UNKNOWN, Breaker

log = structlog.get_logger()


@click.command()
@click.argument("address")
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def route(address: str, *, machine: bool) -> None:
    """Show which way a mail to ADDRESS would go now, and why."""
    if find_key(address) is None:
        raise click.BadParameter("This is not an email address.", param_hint="ADDRESS")

    async def run() -> None:
        settings = load_operation()
        if not settings.ways_out:
            raise ConfigurationError("REGSVC_MAIL_URL is not set")
        names = [way.name for way in parse_mail_urls(settings.ways_out)]
        async with open_database(settings) as conn:
            known, whole, held = await load_routes(conn), await get_breaker(conn), await load_held(conn)
        if len(names) == 1:
            known = {names[0]: whole}
        log.info("mail route shown", actor=ACTOR, recipient=mask_email(address))
        shown = _describe(address, names, known, whole, held)
        if machine:
            print_json(shown)
            return
        for line in _lines(shown):
            click.echo(printable(line))

    run_command(run)


def _describe(
    address: str, names: list[str], known: dict[str, Breaker], whole: Breaker, held: dict[str, float]
) -> dict[str, Any]:
    family = family_key(address.rpartition("@")[2])
    routes = [
        {
            "name": name,
            "open": not (state := known.get(name, UNKNOWN)).open,
            "reason": state.reason,
            "reply": state.reply,
            "remedy": find_remedy(state.reason, state.reply),
        }
        for name in names
    ]
    usable = [each["name"] for each in routes if each["open"]]
    waits = "family" if family in held else "routes" if whole.open or not usable else None
    return {
        "route": None if waits else usable[0],
        "waits_for": waits,
        "family": family,
        "held_seconds": round(held[family]) if family in held else None,
        "routes": routes,
    }


def _lines(shown: dict[str, Any]) -> list[str]:
    match shown["waits_for"]:
        case "family":
            first = f"waits: {shown['family']} throttles for {shown['held_seconds']} s more; one mail a minute tests it"
        case "routes":
            first = "waits: no route is open; one mail every ten seconds tests them"
        case _:
            first = f"goes by {shown['route']}, the first route that is open"
    lines = [first]
    for each in shown["routes"]:
        state = "open" if each["open"] else "closed"
        why = f": {each['reason']} {each['reply'] or ''}".rstrip() if each["reason"] else ""
        lines.append(f"  {each['name']}: {state}{why}")
        if each["remedy"]:
            lines.append(f"    {each['remedy']}")
    return lines
