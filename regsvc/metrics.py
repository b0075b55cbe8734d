"""Metrics of this process, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

MAILS = Counter("regsvc_mails_total", "Mails by outcome of a delivery attempt", ["outcome"])
BREAKER_OPEN = Gauge("regsvc_mail_breaker_open", "1 while sending is paused because the mail server fails")
REPORTS = Counter(
    "regsvc_mail_reports_total",
    "Reports about accepted mails, by source and event or outcome",
    ["source", "report"],
)
MAILBOX_ROUNDS = Counter(
    "regsvc_bounce_mailbox_rounds_total", "Looks into the bounce mailbox, by outcome", ["outcome"]
)
ACCEPTED_AFTER = Histogram(
    "regsvc_mail_acceptance_seconds",
    "Seconds from the request for a mail to its acceptance by the mail server, by receiver family",
    ["family"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 14_400, 86_400),
)
OLDEST_DUE = Gauge("regsvc_oldest_due_mail_seconds", "How long the mail that is due longest has been due")
DUE = Gauge("regsvc_due_mails", "Mails that are due and that no worker has claimed; 10,000 stands for more")
CONFIRMED_AFTER = Histogram(
    "regsvc_confirmation_seconds",
    "Seconds from the acceptance of a sign-up's mail to its confirmation, by receiver family",
    ["family"],
    buckets=(5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400),
)
FAMILY_ASTRAY = Gauge(
    "regsvc_receiver_family_astray",
    "1 while far fewer people at a receiver family confirm soon than usual there",
    ["family"],
)
PUBLISHED = Counter("regsvc_messages_published_total", "Mail ids that the broker confirmed")
EVENTS = Counter(
    "regsvc_events_total",
    "Events sent: confirmed or unroutable at the exchange, delivered or failed at a webhook",
    ["sink", "outcome"],
)
HOOK_CALLS = Counter(
    "regsvc_hook_calls_total", "Calls of the hook before a sign-up: allowed, refused, failed", ["outcome"]
)
QUEUED = Gauge(
    "regsvc_queue_messages", "Messages waiting in RabbitMQ; absent while it is unavailable", ["queue"]
)
MALFORMED = Counter(
    "regsvc_messages_malformed_total", "Malformed messages moved to the dead letters", ["why"]
)
UNCLAIMED = Counter(
    "regsvc_messages_unclaimed_total", "Messages whose mail was already sent, being sent, or deleted"
)
FOREIGN = Counter(
    "regsvc_foreign_messages_total",
    "Legacy messages: accepted, duplicate, rejected",
    ["outcome"],
)
LOG_LINES_DROPPED = Counter(
    "regsvc_log_lines_dropped_total", "Log lines dropped because the reader was too slow"
)
LEADS = Gauge("regsvc_leads", "1 while this process runs a chore for all processes", ["chore"])
CHILD_FAILURES = Counter("regsvc_child_failures_total", "Failures of supervised children", ["child"])
CHILD_RUNNING = Gauge("regsvc_child_running", "1 while a supervised child runs", ["child"])
IDENTITY_ANSWERS = Counter(
    "regsvc_identity_answers_total",
    "Answers of identity providers by what came of them",
    ["provider", "outcome"],
)
RATE_LIMITED = Counter("regsvc_rate_limited_total", "Requests refused by a rate limit", ["limit"])
FACTORS = Counter(
    "regsvc_second_factors_total", "Second factors given, by kind and whether right", ["method", "outcome"]
)
CHALLENGES = Counter(
    "regsvc_challenges_total", "Proof of work: asked, refused (a wrong or used solution), solved", ["outcome"]
)
SPANS = Counter("regsvc_spans_total", "Spans of traces sent to the collector, or lost", ["outcome"])
LAG = Histogram(
    "regsvc_event_loop_lag_seconds",
    "How much later than asked for a sleeping task of the event loop was woken",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
REQUEST_SECONDS = Histogram(
    "regsvc_http_request_seconds",
    "Seconds from a whole request to the end of its answer, by method and route",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30),
)
HASHING_SECONDS = Histogram(
    "regsvc_password_hash_seconds",
    "Seconds from the request for a password hash to its end, the wait for a thread included",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REQUESTS = Counter("regsvc_http_requests_total", "HTTP requests answered", ["method", "status"])
CONNECTIONS = Gauge(
    "regsvc_database_connections",
    "PostgreSQL connections for requests: idle, in use, and waiting requests",
    ["state"],
)
DATABASE_WAIT = Histogram(
    "regsvc_database_wait_seconds",
    "Seconds that a task waited for a PostgreSQL connection, by what it is for: http or work",
    ["use"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
DATABASE_USE = Histogram(
    "regsvc_database_use_seconds",
    "Seconds that a PostgreSQL connection was used for one statement or transaction, by what it is for",
    ["use"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
HASHING_WAIT = Histogram(
    "regsvc_password_hash_wait_seconds",
    "Seconds that a password waited for a hashing thread",
    buckets=(0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SMTP_STAGE = Histogram(
    "regsvc_smtp_stage_seconds",
    "Seconds of one stage of a conversation with a mail server, by outcome: ok, transient, permanent, lost",
    ["stage", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
HASHES = Gauge("regsvc_password_hashes", "Passwords being hashed (busy) and queued (waiting)", ["state"])
WAITERS = Gauge("regsvc_live_waiters", "Websockets and long polls that wait for a change")
PROCESS_RUNNING = Gauge(
    "regsvc_process_running", "1 while a process is at work, of several with one supervisor", ["process"]
)
PROCESS_FAILURES = Counter(
    "regsvc_process_failures", "Deaths of a process, of several with one supervisor", ["process"]
)
