"""The proxies of docs/proxies.md, as that page sets them up: sign-up, websocket, and a rolling restart behind each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from tests.programs import Program, run_program, serve_environ
from tests.services import PASSWORD
from tests.suite.ports import take_port
from tests.websockets import open_socket

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
_MODULES = (
    "mpm_event",
    "authz_core",
    "proxy",
    "proxy_http",
    "proxy_balancer",
    "lbmethod_byrequests",
    "slotmem_shm",
    "rewrite",
)


@dataclass(frozen=True)
class Kind:
    """A proxy that can be tried.

    Args:
        name: of its section in the page.
        program: what runs it.
        configure: makes its configuration of the page's, where it listens, and its folder.
        command: runs it in the foreground with a configuration's file.
    """

    name: str
    program: str
    configure: Callable[[str, int, Path], str]
    command: Callable[[str, Path], list[str]]


def read_snippet(name: str, ports: list[int]) -> str:
    """Return the configuration that the page shows, with our instances in it."""
    page = (ROOT / "docs" / "proxies.md").read_text()
    found = re.search(rf"^## {name}\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found, name
    text = found[1]
    for number, port in enumerate(ports):
        assert f"10.0.0.{11 + number}:8080" in text
        text = text.replace(f"10.0.0.{11 + number}:8080", f"127.0.0.1:{port}")
    return text


def _nginx(text: str, port: int, folder: Path) -> str:
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
    return f"{head}http {{\naccess_log off;\n{temporary}{text}}}\n"


def _haproxy(text: str, port: int, _: Path) -> str:
    bind = re.compile(r"bind :443 .*")
    return "defaults\n    mode http\n" + bind.sub(f"bind 127.0.0.1:{port}", text)


def _caddy(text: str, port: int, _: Path) -> str:
    return "{\n admin off\n auto_https off\n}\n" + text.replace(
        "accounts.example.org {", f"http://127.0.0.1:{port} {{"
    )


def _apache(text: str, port: int, folder: Path) -> str:
    library = "/usr/lib/apache2/modules"
    modules = "".join(f"LoadModule {name}_module {library}/mod_{name}.so\n" for name in _MODULES)
    head = f"ServerRoot {folder}\nServerName test\nPidFile {folder}/pid\nErrorLog /dev/stderr\n"
    return f"{head}Listen 127.0.0.1:{port}\n{modules}{text}"


KINDS = [
    Kind("nginx", "nginx", _nginx, lambda program, file: [program, "-c", str(file)]),
    Kind("HAProxy", "haproxy", _haproxy, lambda program, file: [program, "-db", "-f", str(file)]),
    Kind(
        "Caddy",
        "caddy",
        _caddy,
        lambda program, file: [program, "run", "--adapter", "caddyfile", "--config", str(file)],
    ),
    Kind("Apache", "apache2", _apache, lambda program, file: [program, "-D", "FOREGROUND", "-f", str(file)]),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.program)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    if shutil.which(found.program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip(f"{found.program} is not installed")
    return found


@asynccontextmanager
async def run_proxy(kind: Kind, instances: list[int], folder: Path) -> AsyncIterator[str]:
    """Run a proxy as long as the block lasts, and give where it listens."""
    port = take_port()
    file = folder / "proxy.conf"
    file.write_text(kind.configure(read_snippet(kind.name, instances), port, folder))
    program = shutil.which(kind.program, path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            kind.command(program, file), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url) as client:
            with trio.fail_after(30):
                while True:
                    assert process.returncode is None, log.read_text()
                    try:
                        if (await client.get("/healthz")).status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    await trio.sleep(0.05)
        yield url
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            await process.wait()


async def sign_up(client: httpx.AsyncClient) -> httpx.Response:
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD, "name": "Ann"}
    return await client.post("/api/v1/register", json=body)


async def test_sign_up_websocket_and_rolling_restart(kind: Kind, database: str, tmp_path: Path) -> None:
    ports = [take_port(), take_port()]
    environ = serve_environ(database, tmp_path, trusted_proxies="127.0.0.1", metrics_allow="127.0.0.1")

    async with AsyncExitStack() as stack:
        running: list[Program] = [
            await stack.enter_async_context(run_program("serve", folder=tmp_path, environ=environ, port=port))
            for port in ports
        ]
        url = await stack.enter_async_context(run_proxy(kind, ports, tmp_path))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20))

        # The service behind it knows the client, and shows it nothing of an operator's.
        answer = await client.get("/signup", headers={"X-Forwarded-For": "198.51.100.1"})
        assert answer.status_code == 200
        assert (await client.get("/metrics")).status_code in {403, 404}

        signed_up = await sign_up(client)
        assert signed_up.status_code == 201, signed_up.text
        live = signed_up.headers["Location"] + "/live"
        async with open_socket(f"ws{url.removeprefix('http')}{live}") as socket:
            await socket.send_message(f'{{"handle": "{signed_up.headers["Regsvc-Handle"]}"}}')
            with trio.fail_after(8):
                assert "state" in await socket.get_message()

        statuses: list[int] = []
        done = trio.Event()

        async def keep_signing_up() -> None:
            while not done.is_set():
                try:
                    statuses.append((await sign_up(client)).status_code)
                except httpx.TransportError:
                    statuses.append(0)
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(keep_signing_up)
            for number, port in enumerate(ports):
                before = len(statuses)
                assert await running[number].stop() == 0
                running[number] = await stack.enter_async_context(
                    run_program("serve", folder=tmp_path, environ=environ, port=port)
                )
                with trio.fail_after(60):
                    while len(statuses) < before + 20:  # noqa: ASYNC110 - nobody announces it
                        await trio.sleep(0.02)
            done.set()
        assert set(statuses) == {201}, statuses
