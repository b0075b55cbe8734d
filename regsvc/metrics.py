"""What this process counts, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MAILS = Counter("regsvc_mails_total", "Mails by what became of an attempt to send them", ["outcome"])
BREAKER_OPEN = Gauge("regsvc_mail_breaker_open", "1 while sending is paused: look at the mail server")
PUBLISHED = Counter("regsvc_messages_published_total", "Mail ids that the broker confirmed")
QUEUED = Gauge(
    "regsvc_queue_messages", "Messages that wait in RabbitMQ; absent while it cannot be asked", ["queue"]
)
MALFORMED = Counter(
    "regsvc_messages_malformed_total", "Messages that went to the dead letters on sight", ["why"]
)
UNCLAIMED = Counter(
    "regsvc_messages_unclaimed_total", "Messages whose mail was sent, in hand or gone already"
)
FOREIGN = Counter(
    "regsvc_foreign_messages_total",
    "Messages of the system that this one replaces: taken, known already, rejected",
    ["outcome"],
)
LOG_LINES_DROPPED = Counter("regsvc_log_lines_dropped_total", "Log lines dropped because nothing read them")
CHILD_FAILURES = Counter("regsvc_child_failures_total", "Failures of supervised children", ["child"])
CHILD_RUNNING = Gauge("regsvc_child_running", "1 while a supervised child runs", ["child"])
RATE_LIMITED = Counter("regsvc_rate_limited_total", "Requests refused for a limit", ["limit"])
REQUESTS = Counter("regsvc_http_requests_total", "HTTP requests answered", ["method", "status"])
CONNECTIONS = Gauge(
    "regsvc_database_connections",
    "PostgreSQL connections for requests: idle, in_use, and waited for",
    ["state"],
)
HASHES = Gauge(
    "regsvc_password_hashes", "Passwords being hashed (busy) and in line for it (waiting)", ["state"]
)
WAITERS = Gauge("regsvc_live_waiters", "Websockets and long polls that wait for a change")
