"""What this process counts, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MAILS = Counter("regsvc_mails_total", "Mails by what became of an attempt to send them", ["outcome"])
BREAKER_OPEN = Gauge("regsvc_mail_breaker_open", "1 while sending is paused: look at the mail server")
PUBLISHED = Counter("regsvc_messages_published_total", "Mail ids that the broker confirmed")
MALFORMED = Counter(
    "regsvc_messages_malformed_total", "Messages that went to the dead letters on sight", ["why"]
)
UNCLAIMED = Counter(
    "regsvc_messages_unclaimed_total", "Messages whose mail was sent, in hand or gone already"
)
CHILD_FAILURES = Counter("regsvc_child_failures_total", "Failures of supervised children", ["child"])
CHILD_RUNNING = Gauge("regsvc_child_running", "1 while a supervised child runs", ["child"])
REQUESTS = Counter("regsvc_http_requests_total", "HTTP requests answered", ["method", "status"])
