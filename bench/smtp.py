"""How many mails a second `SmtpTransport.send` hands to a server that accepts everything at once.

    python bench/smtp.py [--mails 20000] [--connections 4] [--octets 6000]

Starts `bench/smtp_sink.py` as a process of its own. Rendering, claiming and booking are not part of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import trio

from regsvc.mail.envelope import Envelope
from regsvc.mail.outcome import Accepted
from regsvc.mail.transport import Transport, open_transport


def mail(octets: int) -> Envelope:
    """Return a mail of about that size."""
    line = b"x" * 76 + b"\r\n"
    data = b"Message-ID: <bench@example.org>\r\nSubject: bench\r\n\r\n" + line * (octets // len(line))
    return Envelope("from@example.org", "to@example.net", data)


async def send_mails(transport: Transport, envelope: Envelope, count: int) -> None:
    """Send one mail after the other."""
    for _ in range(count):
        outcome = await transport.send(envelope, before_dot=lambda: True)
        if not isinstance(outcome, Accepted):
            raise SystemExit(f"the sink did not take a mail: {outcome}")


async def measure(url: str, mails: int, connections: int, octets: int) -> tuple[float, float]:
    """Return the seconds that so many mails take, and how many of them this process was computing."""
    transport = open_transport(url, connections=connections)
    envelope = mail(octets)
    await send_mails(transport, envelope, 100)
    start, computing = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(send_mails, transport, envelope, mails // connections)
    seconds, computed = time.perf_counter() - start, time.process_time() - computing
    await transport.aclose()
    return seconds, computed


def main() -> None:
    """Read the options, start the sink, print the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--octets", type=int, default=6_000, help="size of a mail")
    options = parser.parse_args()
    sink = Path(__file__).with_name("smtp_sink.py")
    with subprocess.Popen([sys.executable, str(sink)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - said so above
            address = process.stdout.readline().split()[1]
            run = partial(measure, f"smtp://{address}", options.mails, options.connections, options.octets)
            seconds, computed = trio.run(run)
        finally:
            process.terminate()
    rate, share = options.mails / seconds, computed / options.mails * 1e6
    print(f"{rate:.0f} mails/s over {options.connections} sessions, {share:.0f} us of our CPU a mail")


if __name__ == "__main__":
    main()
