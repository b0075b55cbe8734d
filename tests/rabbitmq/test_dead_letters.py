"""What an operator does with messages that nobody could read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio

from regsvc.errors import BrokerUnavailableError
from regsvc.rabbitmq import DeadLetter, open_dead_letters, open_publisher
from tests.rabbitmq.conftest import DEAD, QUEUE, consume, publish_good, take

if TYPE_CHECKING:
    from tests.amqp import RawChannel
    from tests.proxies import Proxy

pytestmark = pytest.mark.timeout(60)


async def declare(url: str) -> None:
    """Have the queues declared."""
    async with open_dead_letters(url):
        pass


async def look(url: str, limit: int = 100) -> list[DeadLetter]:
    async with open_dead_letters(url) as letters:
        return await letters.take(limit)


async def test_no_dead_letters_are_none(amqp_url: str) -> None:
    assert await look(amqp_url) == []


async def test_a_dead_letter_says_what_is_wrong_with_it_and_how_it_came_here(
    amqp_url: str, raw: RawChannel
) -> None:
    await declare(amqp_url)
    await raw.publish(QUEUE, b"not a mail", content_type="text/plain", message_id="m-1")
    told: list[str] = []
    good = uuid4()
    async with consume(amqp_url, on_malformed=told.append) as consumer:
        await publish_good(raw, good)
        assert await take(consumer, 1) == [good]
    assert told == ["wrong type"]
    (letter,) = await look(amqp_url)
    assert (letter.mail_id, letter.trouble, letter.cause) == (None, "wrong type", "rejected")
    assert (letter.content_type, letter.type, letter.message_id) == ("text/plain", None, "m-1")
    assert (letter.body, letter.size) == ("not a mail", 10)
    assert letter.died_at is not None
    assert abs(datetime.now(UTC) - letter.died_at) < timedelta(minutes=1)


async def test_one_that_can_be_read_says_which_mail_it_is_about(amqp_url: str, raw: RawChannel) -> None:
    await declare(amqp_url)
    mail_id = uuid4()
    await publish_good(raw, mail_id)
    async with consume(amqp_url) as consumer:
        await (await anext(consumer)).reject()
    (letter,) = await look(amqp_url)
    assert (letter.mail_id, letter.trouble) == (mail_id, None)


async def test_looking_changes_nothing_not_even_the_order(amqp_url: str, raw: RawChannel) -> None:
    await declare(amqp_url)
    for n in range(5):
        await raw.publish(DEAD, f"letter {n}".encode())
    seen = await look(amqp_url)
    assert [letter.body for letter in seen] == [f"letter {n}" for n in range(5)]
    assert [letter.body for letter in await look(amqp_url, 2)] == ["letter 0", "letter 1"]
    assert await look(amqp_url) == seen
    assert await raw.depth(DEAD) == 5


async def test_what_is_dropped_is_gone_and_the_rest_is_not(amqp_url: str, raw: RawChannel) -> None:
    await declare(amqp_url)
    for n in range(5):
        await raw.publish(DEAD, f"letter {n}".encode())
    async with open_dead_letters(amqp_url) as letters:
        taken = await letters.take(100)
        await letters.drop([taken[3], taken[1]])
        await letters.drop([])
    assert [letter.body for letter in await look(amqp_url)] == ["letter 0", "letter 2", "letter 4"]


async def test_messages_that_say_the_same_have_one_id_and_others_have_others(
    amqp_url: str, raw: RawChannel
) -> None:
    await declare(amqp_url)
    for body, message_id in ((b"x", "1"), (b"x", "1"), (b"y", "1"), (b"x", "2")):
        await raw.publish(DEAD, body, message_id=message_id)
    first, same, *others = [letter.id for letter in await look(amqp_url)]
    assert first == same
    assert len({first, *others}) == 3


async def test_what_can_be_read_is_sent_on_and_the_rest_stays(amqp_url: str, raw: RawChannel) -> None:
    await declare(amqp_url)
    mails = [uuid4() for _ in range(3)]
    for mail_id in mails:
        await publish_good(raw, mail_id)
    await raw.publish(DEAD, b"not a mail")
    async with consume(amqp_url) as consumer:
        for _ in mails:
            await (await anext(consumer)).reject()
    async with open_dead_letters(amqp_url) as letters, open_publisher(amqp_url) as publisher:
        done = await letters.requeue(await letters.take(100), publisher)
        assert {letter.mail_id for letter in done} == set(mails)
    assert [letter.trouble for letter in await look(amqp_url)] == ["wrong type"]
    async with consume(amqp_url) as consumer:
        assert set(await take(consumer, 3)) == set(mails)
    assert await raw.depth(DEAD) == 1


async def test_no_secret_nor_escape_sequence_of_a_message_is_shown(amqp_url: str, raw: RawChannel) -> None:
    await declare(amqp_url)
    token = "Zx9" * 200
    await raw.publish(DEAD, b'{"email": "ann@example.com", "confirmation_token": "%s"}' % token.encode())
    await raw.publish(DEAD, b"\x1b[2J\xff\x00\r\n\xe2\x80\xae", message_id="\x1b]0;x\x07")
    leaky, evil = await look(amqp_url)
    assert leaky.body == '{"email": "a***@example.com", "confirmation_token": ***}'
    assert evil.body == r"\x1b[2J\xff\x00\r \u202e"
    assert evil.message_id == r"\x1b]0;x\x07"


async def test_a_large_letter_shows_its_beginning_and_its_size(amqp_url: str, raw: RawChannel) -> None:
    await declare(amqp_url)
    await raw.publish(DEAD, b"many words " * 100_000)
    (letter,) = await look(amqp_url)
    assert (letter.trouble, letter.size, len(letter.body)) == ("oversized", 1_100_000, 500)


@pytest.mark.parametrize("deaths", [[], "x", ["x"], [{"time": "soon", "reason": 7}], None])
async def test_a_history_that_the_broker_did_not_write_does_no_harm(
    amqp_url: str, raw: RawChannel, deaths: object
) -> None:
    await declare(amqp_url)
    await raw.publish(DEAD, b"x", headers={"x-death": deaths})
    (letter,) = await look(amqp_url)
    assert (letter.body, letter.died_at) == ("x", None)


async def test_letters_taken_when_the_connection_is_lost_are_all_there_again(
    amqp_url: str, raw: RawChannel, proxy: Proxy, proxied_url: str
) -> None:
    await declare(amqp_url)
    for n in range(3):
        await raw.publish(DEAD, f"letter {n}".encode())
    with pytest.raises(BrokerUnavailableError):
        async with open_dead_letters(proxied_url) as letters:
            taken = await letters.take(100)
            proxy.reset()
            await letters.drop(taken)
    with trio.fail_after(20):
        while len(await look(amqp_url)) < 3:  # until the broker has noticed
            await trio.lowlevel.checkpoint()
