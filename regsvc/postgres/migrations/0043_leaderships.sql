-- Which process runs a chore that one process is enough for, and until when unless it renews that. The clock is the
-- database's. A chore run by two processes does no harm: programs before this table know nothing of it.
CREATE TABLE leaderships (
    chore   text PRIMARY KEY,
    holder  text NOT NULL,                      -- host, process and a number of that process's own
    since   timestamptz NOT NULL DEFAULT now(),
    until   timestamptz NOT NULL
);
