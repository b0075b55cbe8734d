"""Tracing is off unless it is wanted, and then nothing of it is there."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.config import loading
from regsvc.errors import ConfigurationError
from regsvc.program import GRACE
from tests.programs import clean_environ, run_program, serve_environ
from tests.services import PLAIN

WITHOUT = """
import sys
for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
    del sys.modules[name]
sys.modules["opentelemetry"] = None
from regsvc.config.traces.trace_settings import TraceSettings
print(TraceSettings(traces="off").traces)
try:
    TraceSettings(traces="on")
except ValueError as error:
    print(error)
"""


def test_switched_on_without_the_extra_is_named_at_the_start() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env=clean_environ({}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.startswith("False\n")
    assert "needs the extra: pip install 'regsvc[otel]'" in run.stdout


@pytest.mark.parametrize(
    ("name", "value"), [("TRACES", "yes please"), ("TRACES_RATIO", "1.1"), ("TRACES_PER_SECOND", "0")]
)
def test_a_setting_that_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"REGSVC_{name}"):
        loading.load({f"REGSVC_{name}": value}, mode="operate")


SHOW = """
import sys
from regsvc import roles, serving
from regsvc.consumer import relay, subscriber
from regsvc.mail.smtp import transport
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "google", "requests"))))
"""


def test_off_loads_nothing_of_opentelemetry() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=clean_environ({}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "never answers"])
async def test_a_collector_that_is_away_costs_one_line_and_does_not_hold_up_the_end(
    database: str, tmp_path: Path, *, silent: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = listening.getsockname()
        if not silent:
            listening.close()
        environ = serve_environ(database, tmp_path, traces="on", traces_per_second="1000") | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{where[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2" if not silent else "60",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }
        async with run_program("serve", folder=tmp_path, environ=environ) as program:
            async with httpx.AsyncClient(base_url=program.url, verify=PLAIN, timeout=60) as client:
                for _ in range(50):
                    assert (await client.get("/login")).status_code == 200
                if not silent:
                    await program.wait_log("traces are not exported")
                for _ in range(50):
                    assert (await client.get("/login")).status_code == 200
            program.process.send_signal(signal.SIGTERM)
            with trio.fail_after(GRACE):
                assert await program.process.wait() == 0
            program.check_log()
            assert '"source"' not in program.log(), "a library logs by itself"
            assert len(program.events("traces are not exported: the collector does not take them")) <= 1
            answered = program.events("request answered")
            assert len({line["trace_id"] for line in answered if line["path"] == "/login"}) == 100


async def test_a_standard_variable_that_cannot_be_is_a_configuration_error(
    database: str, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path, traces="on") | {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}
    async with run_program("serve", folder=tmp_path, environ=environ, ready=False) as program:
        with trio.fail_after(GRACE):
            assert await program.process.wait() == 78
        assert "an OTEL_ variable is invalid" in program.log()
        program.check_log()
