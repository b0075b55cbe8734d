"""The Standard Webhooks libraries of JavaScript and Go verify deliveries; Python's is in the suite itself.

Each takes a delivery as it came, also with either secret during a rotation, and refuses it with another body, with
another id, under another secret, and signed rightly ten minutes ago. Needs node with npm, and go; the libraries are
downloaded.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from regsvc.accounts.events.webhooks import rotate_webhook
from regsvc.postgres.pool import Pool
from regsvc.webhooks.signature import mint_secret, sign
from tests.events.happenings import OPERATOR, SECRETS, add_receiver, add_user, sending
from tests.events.test_webhooks import hook
from tests.mail.providers import ProviderServer
from tests.polling import wait_until
from tests.realities.verifiers import Command, must, run

JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";
const { secret, headers, body } = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log(new Webhook(secret).verify(Buffer.from(body, "base64"), headers).id);
"""

GO = """
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	var given struct {
		Secret  string
		Headers map[string]string
		Body    []byte
	}
	text, err := os.ReadFile(os.Args[1])
	must(err)
	must(json.Unmarshal(text, &given))
	headers := http.Header{}
	for name, value := range given.Headers {
		headers.Set(name, value)
	}
	webhook, err := webhooks.NewWebhook(given.Secret)
	must(err)
	must(webhook.Verify(given.Body, headers))
	var event struct{ Id string }
	must(json.Unmarshal(given.Body, &event))
	fmt.Println(event.Id)
}
"""


def build_javascript(folder: Path) -> Command:
    (folder / "verify.mjs").write_text(JAVASCRIPT)
    (folder / "package.json").write_text('{"private": true}')
    must(["npm", "install", "--silent", "--no-audit", "--no-fund", "standardwebhooks@1"], folder)
    return ["node", "verify.mjs"]


def build_go(folder: Path) -> Command:
    (folder / "main.go").write_text(GO)
    must(["go", "mod", "init", "verify"], folder)
    must(["go", "get", "github.com/standard-webhooks/standard-webhooks/libraries@v0.0.1"], folder)
    must(["go", "build", "-o", "verify", "."], folder)
    return [folder / "verify"]


BUILDERS: dict[str, tuple[Callable[[Path], Command], tuple[str, ...]]] = {
    "JavaScript": (build_javascript, ("node", "npm")),
    "Go": (build_go, ("go",)),
}


@pytest.mark.parametrize("language", BUILDERS)
async def test_a_delivery_is_verified_and_what_is_none_refused(
    language: str, database: str, pool: Pool, tmp_path: Path
) -> None:
    build, programs = BUILDERS[language]
    missing = [program for program in programs if shutil.which(program) is None]
    assert not missing, f"install {', '.join(missing)} for this check"
    command = await trio.to_thread.run_sync(build, tmp_path)
    given = tmp_path / "given.json"

    async def verify(secret: str, headers: dict[str, str], body: bytes) -> str | None:
        """Return the id of the event that the library takes; None if it refuses."""
        given.write_text(
            json.dumps({"secret": secret, "headers": headers, "body": base64.b64encode(body).decode()})
        )
        done = await trio.to_thread.run_sync(run, [*command, given], tmp_path)
        return done.stdout.strip() if done.returncode == 0 else None

    async with ProviderServer("resend").running() as server, sending(pool, database):
        webhook_id, old = await add_receiver(pool, hook(server))
        await add_user(pool)
        await wait_until(lambda: len(server.requests) == 1)
        async with pool.transaction() as conn:
            new = await rotate_webhook(conn, SECRETS, webhook_id, OPERATOR)
        await add_user(pool)
        await wait_until(lambda: len(server.requests) == 2)
    first, rotated = server.requests
    event_id = first.headers["webhook-id"]
    assert await verify(old, first.headers, first.body) == event_id
    for secret in (old, new):
        assert await verify(secret, rotated.headers, rotated.body) == rotated.headers["webhook-id"]
    assert await verify(new, first.headers, first.body) is None
    assert await verify(mint_secret(), rotated.headers, rotated.body) is None
    assert await verify(old, first.headers, first.body.replace(b"user.created", b"user.deleted")) is None
    assert (
        await verify(old, first.headers | {"webhook-id": rotated.headers["webhook-id"]}, first.body) is None
    )
    for minutes, taken in ((10, None), (1, event_id)):
        signed = sign([old], event_id, int(time.time()) - 60 * minutes, first.body)
        assert await verify(old, signed, first.body) == taken
