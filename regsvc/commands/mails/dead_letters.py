"""`regsvc mail poison`: malformed messages in RabbitMQ's dead-letter queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import click
import structlog

from regsvc.commands.options import as_json
from regsvc.commands.runner import ACTOR, load_operation, print_json, run_command
from regsvc.errors import ConfigurationError
from regsvc.rabbitmq import DeadLetter, open_dead_letters, open_publisher

log = structlog.get_logger()

_ALL = 10_000  # capacity of the queue

letter_ids = click.argument("letter_ids", metavar="[ID]...", nargs=-1)
every = click.option("--all", "every", is_flag=True, help="All messages.")


@click.group("poison")
def dead_letters() -> None:
    """Messages that could not be processed, in the queue email_confirm.dead.

    No mail depends on them: a mail whose message is lost is sent all the same.
    """


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1, _ALL), default=100, show_default=True)
@as_json
def list_(limit: int, *, machine: bool) -> None:
    """List messages, the oldest first, with secrets and addresses masked."""

    async def run() -> None:
        async with open_dead_letters(_load_url()) as letters:
            found = await letters.take(limit)
        log.info("poison listed", actor=ACTOR, count=len(found))
        if machine:
            print_json([_describe(letter) for letter in found])
        else:
            for letter in found:
                click.echo(_line(letter))

    run_command(run)


@dead_letters.command()
@letter_ids
@every
@as_json
def drop(letter_ids: Sequence[str], *, every: bool, machine: bool) -> None:
    """Delete messages."""
    _check_choice(letter_ids, every=every)
    run_command(partial(_drop, letter_ids, machine=machine))


@dead_letters.command()
@letter_ids
@every
@as_json
def requeue(letter_ids: Sequence[str], *, every: bool, machine: bool) -> None:
    """Return messages to the queue if they are well formed; the others stay."""
    _check_choice(letter_ids, every=every)
    run_command(partial(_requeue, letter_ids, machine=machine))


async def _drop(letter_ids: Sequence[str], *, machine: bool) -> None:
    async with open_dead_letters(_load_url()) as letters:
        chosen = _choose(await letters.take(_ALL), letter_ids)
        await letters.drop(chosen)
    _report("poison dropped", chosen, left=[], machine=machine)


async def _requeue(letter_ids: Sequence[str], *, machine: bool) -> None:
    url = _load_url()
    async with open_dead_letters(url) as letters, open_publisher(url, name="operator") as publisher:
        chosen = _choose(await letters.take(_ALL), letter_ids)
        done = await letters.requeue(chosen, publisher)
    _report(
        "poison requeued", done, left=[letter for letter in chosen if letter not in done], machine=machine
    )


def _load_url() -> str:
    chosen = load_operation()
    if chosen.amqp_url is None:
        raise ConfigurationError("REGSVC_AMQP_URL is not set, so there are no messages")
    return chosen.amqp_url.get_secret_value()


def _check_choice(letter_ids: Sequence[str], *, every: bool) -> None:
    if bool(letter_ids) == every:
        raise click.UsageError("Name messages, or use --all.")


def _choose(found: Sequence[DeadLetter], letter_ids: Sequence[str]) -> list[DeadLetter]:
    """Return the messages with these ids, or all if none is given.

    Raises:
        click.ClickException: an id does not exist; nothing is done then.
    """
    unknown = set(letter_ids) - {letter.id for letter in found}
    if unknown:
        raise click.ClickException(f"There is no message {', '.join(sorted(unknown))}.")
    return [letter for letter in found if not letter_ids or letter.id in letter_ids]


def _report(event: str, done: Sequence[DeadLetter], *, left: Sequence[DeadLetter], machine: bool) -> None:
    ids = [letter.id for letter in done]
    log.info(event, actor=ACTOR, count=len(ids), messages=ids[:100])
    if machine:
        print_json({"done": ids, "left": [letter.id for letter in left]})
        return
    click.echo(f"{len(done)} {event.removeprefix('poison ')}")
    for letter in left:
        click.echo(f"{letter.id} stays: {letter.trouble or 'the broker did not accept it'}", err=True)


def _describe(letter: DeadLetter) -> dict[str, object]:
    described = {name: value for name, value in asdict(letter).items() if name != "tag"}
    return described | {
        "mail_id": str(letter.mail_id) if letter.mail_id else None,
        "died_at": letter.died_at.isoformat() if letter.died_at else None,
    }


def _line(letter: DeadLetter) -> str:
    died_at = f"{letter.died_at:%Y-%m-%d %H:%M:%S}" if letter.died_at else "-"
    trouble = letter.trouble or letter.cause or "-"
    return f"{letter.id}  {died_at:<19}  {trouble:<16}  {letter.size:>6} bytes  {letter.body[:80]}"
