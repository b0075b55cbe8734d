-- Requests that a client marked with an `Idempotency-Key`: each is done once, however often it comes within 24 hours. A
-- row is written in the transaction of what it asks for. Neither the key nor the body is here, only MACs of them, and no
-- answer: that is made again from what the request was about.
CREATE TABLE idempotency_keys (
    key         bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    subject     uuid NOT NULL,                          -- the registration or mail that the request made
    created_at  timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
