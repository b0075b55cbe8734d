-- Progress of recomputing address keys, which a program does in batches because SQL has no IDNA.
CREATE TABLE address_key_progress (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    stage text NOT NULL CHECK (stage IN ('users', 'registrations', 'address_moves', 'mails')),
    after uuid                                          -- the last row that was processed
);
INSERT INTO address_key_progress (stage)
SELECT 'users' WHERE EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM registrations) OR EXISTS (SELECT FROM mails);

-- Accounts that an operator must review.
--   shared    attempts to sign up from another mailbox had the same key
--   collides  another account has the key of its mailbox; this one can no longer be reached by typing its address
CREATE TABLE address_findings (
    user_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    finding  text NOT NULL CHECK (finding IN ('shared', 'collides')),
    others   uuid[] NOT NULL,                           -- ids of registrations, or of the other account
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, finding)
);
