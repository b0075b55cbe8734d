"""`regsvc selftest`: test from the outside that a running service keeps its promises."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import trio

from regsvc.commands.runner import EX_FAILURE, print_json, run_command
from regsvc.errors import ConfigurationError
from regsvc.selftest.caller import Caller
from regsvc.selftest.enumeration import SAMPLES, Stranger
from regsvc.selftest.measurement import Measurement
from regsvc.selftest.people import Account, Addresses, add_app, check_account, make_account
from regsvc.selftest.reported import measure_reported
from regsvc.selftest.timing import FEWEST

_DEV_MAILBOX = Path(".regsvc/mail")


@click.group()
def selftest() -> None:
    """Test the promises of a running service."""


@selftest.command()
@click.argument("url", default="http://127.0.0.1:8080")
@click.option(
    "--email", "address", help="Address of an existing account; new addresses are variants of it: ann+…@…"
)
@click.option(
    "--password", envvar="REGSVC_TEST_PASSWORD", help="Password of that account [env: REGSVC_TEST_PASSWORD]."
)
@click.option(
    "--maildir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: _DEV_MAILBOX if _DEV_MAILBOX.is_dir() else None,
    help="Maildir of the service's mail, for creating two accounts if none is named. [default: that of `regsvc dev`]",
)
@click.option(
    "--samples",
    type=click.IntRange(FEWEST),
    default=SAMPLES,
    show_default=True,
    help="Number of calls of each kind.",
)
@click.option(
    "--feedback-token",
    envvar="REGSVC_TEST_FEEDBACK_TOKEN",
    help="Token of REGSVC_FEEDBACK_MESSAGE, for measuring reports, bounces and complaints, too; needs --maildir "
    "[env: REGSVC_TEST_FEEDBACK_TOKEN].",
)
@click.option("--only", default="", help="Only calls whose name contains this, such as `login`.")
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def enumeration(
    url: str,
    address: str | None,
    password: str | None,
    maildir: Path | None,
    samples: int,
    *,
    feedback_token: str | None,
    only: str,
    machine: bool,
) -> None:
    """Test whether a stranger can learn which addresses have an account.

    Makes thousands of calls at URL, and as many mails. Run it against a separate instance with REGSVC_RATE_LIMITS=off,
    or against `regsvc dev` on this machine. Exits with 1 if accounts can be told apart.
    """
    if (address is None) != (password is None):
        raise click.UsageError("Use --email and --password together.")
    if feedback_token is not None and maildir is None:
        raise click.UsageError("Use --feedback-token with --maildir.")

    def measure() -> list[Measurement]:
        with closing(Caller(url)) as caller:
            addresses = Addresses(address)
            if address is not None and password is not None:
                known, other, guarded = Account(address, password), None, None
                check_account(caller, known)
            elif maildir is not None:
                known, other, guarded = (make_account(caller, addresses.make(), maildir) for _ in range(3))
                add_app(caller, guarded)
            else:
                raise ConfigurationError("name an account (--email, --password) or the mailbox (--maildir)")
            stranger = Stranger(caller, known, addresses, other, guarded)
            show = _ignore if machine else _show
            found = stranger.measure_all(samples, show, only=only)
            if feedback_token is not None and maildir is not None:
                reported = measure_reported(caller, addresses, maildir, feedback_token, samples)
                for measurement in reported:
                    show(measurement)
                found += reported
            return found

    async def run() -> None:
        measurements = await trio.to_thread.run_sync(measure, abandon_on_cancel=True)
        if machine:
            print_json([_describe(measurement) for measurement in measurements])
        _conclude(measurements)

    run_command(run)


def _ignore(_: Measurement) -> None:
    """Show nothing: the end result shows it all."""


def _show(measurement: Measurement) -> None:
    click.echo(f"{measurement.name}: {measurement.verdict}")
    if measurement.answers_differ:
        click.echo("  answered differently:")
        for kind, shapes in measurement.shapes.items():
            for shape, times in shapes.items():
                click.echo(f"  -- {kind}, {times} times\n{shape}")
    for (first, second), found in measurement.comparisons():
        medians = " and ".join(f"{1000 * seconds:.2f}" for seconds in found.medians)
        click.echo(
            f"  {first} and {second}: {medians} ms, shift {1000 * found.shift:+.2f} ms of {1000 * found.limit:.2f}"
            f" (by chance: {found.chance:.3f}, n = {found.samples}): {found.verdict}"
        )


def _describe(measurement: Measurement) -> dict[str, Any]:
    return {
        "call": measurement.name,
        "verdict": measurement.verdict,
        "answers_differ": measurement.answers_differ,
        "comparisons": [
            {
                "kinds": kinds,
                "medians_ms": [1000 * seconds for seconds in found.medians],
                "shift_ms": 1000 * found.shift,
                "limit_ms": 1000 * found.limit,
                "chance": found.chance,
                "samples": found.samples,
                "verdict": found.verdict,
            }
            for kinds, found in measurement.comparisons()
        ],
    }


def _conclude(measurements: Sequence[Measurement]) -> None:
    """Print the result in one line, and exit with 1 if it is not good."""
    told = [it.name for it in measurements if it.verdict == "distinguishable"]
    unclear = [it.name for it in measurements if it.verdict == "unclear"]
    if not measurements:
        raise ConfigurationError("no call has a name like that")
    if told:
        click.echo(f"accounts can be told apart by: {', '.join(told)}", err=True)
        sys.exit(EX_FAILURE)
    if unclear:
        click.echo(
            f"too noisy to tell: {', '.join(unclear)}; use more --samples, or a less busy machine", err=True
        )
        sys.exit(EX_FAILURE)
    click.echo("accounts cannot be told apart", err=True)
