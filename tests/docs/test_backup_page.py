"""What docs/backup.md tells operators to type does what it says."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import structlog

from regsvc.logs import configure
from tests.databases import run_sql
from tests.services import PASSWORD, Service

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text("utf-8")


async def test_the_statement_that_ends_every_session_does(service: Service) -> None:
    await service.confirm()
    tokens = (await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})).json()
    (statement,) = re.findall(r"```sql\n(.*?)\n```", PAGE, re.DOTALL)
    run_sql(service.settings.database_url.get_secret_value(), statement)
    answer = await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_token_invalid")
    await service.log_in()


def test_the_log_has_the_fields_that_name_what_was_sent() -> None:
    (words,) = re.findall(r"jq -r '(.*?)'", PAGE)
    out = io.StringIO()
    try:
        configure(format="json", stream=out)
        structlog.get_logger().info("mail accepted", mail="8f14e45f")
    finally:
        structlog.reset_defaults()
    line = json.loads(out.getvalue())
    assert set(re.findall(r"\.(\w+)", words)) <= set(line)
    assert line["event"] in words
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z", line["timestamp"]), "later ones sort behind"
