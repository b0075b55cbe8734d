-- The circuit breaker in front of the mail server: one row, so that every process sees the same.
CREATE TABLE mail_breaker (
    id        smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    open      boolean NOT NULL DEFAULT false,
    failures  integer NOT NULL DEFAULT 0 CHECK (failures >= 0),  -- in a row, weighed
    reason    text,
    reply     text,
    opened_at timestamptz,
    probe_at  timestamptz,                                       -- when somebody may try the next single mail
    CONSTRAINT mail_breaker_open_has_reason CHECK (NOT open OR (reason IS NOT NULL AND probe_at IS NOT NULL))
);
INSERT INTO mail_breaker DEFAULT VALUES;
