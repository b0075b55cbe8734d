"""What the broker has been told of, and when it is told again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from regsvc.jobs.claims import find_claimable
from regsvc.mail.queue import jobs, publishing
from regsvc.mail.queue.publishing import BROKER_MISSED, Review
from tests.accounts.attempts import sign_up
from tests.mail.test_jobs import claim, rewind, take_due

if TYPE_CHECKING:
    from uuid import UUID

    from regsvc.postgres.pool import Pool


async def take(pool: Pool) -> list[UUID]:
    async with pool.connection() as conn:
        return await publishing.take_for_publishing(conn, 10)


async def publish(pool: Pool, *mail_ids: UUID) -> None:
    assert sorted(await take(pool)) == sorted(mail_ids)
    async with pool.connection() as conn:
        await publishing.note_published(conn, mail_ids)


async def review(pool: Pool, *, ready: int) -> Review:
    async with pool.transaction() as conn:
        return await publishing.review_published(conn, ready)


async def test_a_published_mail_that_nobody_claims_is_due_again_after_five_minutes(pool: Pool) -> None:
    new = await sign_up(pool)
    await publish(pool, new.mail_id)
    await rewind(pool, "4 minutes 59 seconds")
    assert await take_due(pool) == []
    await rewind(pool, "1 second")
    assert [job.id for job in await take_due(pool)] == [new.mail_id]


async def test_a_message_that_is_in_the_queue_no_more_is_published_again_after_five_minutes(
    pool: Pool,
) -> None:
    lost = await sign_up(pool)
    await publish(pool, lost.mail_id)
    await rewind(pool, "4 minutes 59 seconds")
    assert await review(pool, ready=1) == Review()
    there = await sign_up(pool, "bob@example.com")
    await publish(pool, there.mail_id)
    await rewind(pool, "1 second")
    assert await review(pool, ready=1) == Review(released=1)
    assert await take(pool) == [lost.mail_id]


async def test_a_message_that_waits_in_the_queue_is_not_published_again_however_long_nobody_reads_it(
    pool: Pool,
) -> None:
    new = [await sign_up(pool, f"u{n}@example.com") for n in range(5)]
    await publish(pool, *(n.mail_id for n in new))
    for _ in range(3):
        await rewind(pool, "5 minutes")
        assert await take(pool) == []
        assert await review(pool, ready=5) == Review()
    # Two of them are with a consumer that never comes to claim them, or lost.
    assert await review(pool, ready=3) == Review(released=2)
    assert len(await take(pool)) == 2


async def test_mails_of_a_queue_that_nobody_reads_go_past_it(pool: Pool) -> None:
    new = await sign_up(pool)
    await publish(pool, new.mail_id)
    await rewind(pool, "5 minutes")
    assert await review(pool, ready=1) == Review()
    await rewind(pool, "10 seconds")
    assert await review(pool, ready=1) == Review()
    assert await take(pool) == []
    assert [job.id for job in await take_due(pool, overdue=BROKER_MISSED)] == [new.mail_id]


async def test_when_the_broker_is_gone_mails_go_past_it_and_no_relay_publishes_them_again(pool: Pool) -> None:
    old = await sign_up(pool)
    await publish(pool, old.mail_id)
    await rewind(pool, "10 seconds")
    young = await sign_up(pool, "bob@example.com")
    await publish(pool, young.mail_id)
    async with pool.connection() as conn:
        assert await publishing.strand_published(conn) == 1
        assert await publishing.strand_published(conn) == 0
    assert await take(pool) == []
    assert [job.id for job in await take_due(pool, overdue=BROKER_MISSED)] == [old.mail_id]


async def test_when_the_broker_was_gone_for_a_moment_its_messages_count_again(pool: Pool) -> None:
    new = await sign_up(pool)
    await publish(pool, new.mail_id)
    await rewind(pool, "10 seconds")
    async with pool.connection() as conn:
        await publishing.strand_published(conn)
    assert await review(pool, ready=1) == Review(kept=1)
    assert await take_due(pool) == []
    assert [job.id for job in await claim(pool, new.mail_id)] == [new.mail_id]


async def test_a_mail_whose_relay_died_before_publishing_is_due_again_after_twenty_seconds(
    pool: Pool,
) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        assert await publishing.take_for_publishing(conn, 10) == [new.mail_id]
    await rewind(pool, "20 seconds")
    async with pool.connection() as conn:
        assert await publishing.take_for_publishing(conn, 10) == [new.mail_id]


async def test_a_message_of_a_published_mail_claims_it(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        await publishing.take_for_publishing(conn, 10)
        await publishing.note_published(conn, [new.mail_id])
    assert [job.id for job in await claim(pool, new.mail_id)] == [new.mail_id]


async def test_a_message_that_comes_while_its_publishing_is_being_noted_claims_its_mail_all_the_same(
    pool: Pool,
) -> None:
    """No other message comes for that mail: it is kept, and tried again, while the relay holds the row."""
    new = await sign_up(pool)
    async with pool.transaction() as relay:
        await publishing.take_for_publishing(relay, 10)
        await publishing.note_published(relay, [new.mail_id])
        assert await claim(pool, new.mail_id) == []
        async with pool.connection() as conn:
            assert await find_claimable(conn, jobs.MAIL_JOBS, [new.mail_id]) == {new.mail_id}
    assert [job.id for job in await claim(pool, new.mail_id)] == [new.mail_id]
    async with pool.connection() as conn:
        assert await find_claimable(conn, jobs.MAIL_JOBS, [new.mail_id]) == set()


async def test_when_the_queue_came_back_empty_what_it_held_is_due_at_once(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        await publishing.take_for_publishing(conn, 10)
        await publishing.note_published(conn, [new.mail_id])
        assert await publishing.release_published(conn, unclaimed_for=timedelta(seconds=10)) == 0
        assert await publishing.release_published(conn) == 1
    assert [job.id for job in await take_due(pool, overdue=BROKER_MISSED)] == [new.mail_id]


async def test_beside_a_broker_a_mail_is_taken_only_when_nobody_carried_it_for_ten_seconds(
    pool: Pool,
) -> None:
    await sign_up(pool)
    assert await take_due(pool, overdue=BROKER_MISSED) == []
    await rewind(pool, "10 seconds")
    assert len(await take_due(pool, overdue=BROKER_MISSED)) == 1
