-- Keys of addresses are computed anew, by a program and in batches: SQL knows no IDNA. Where that is at.
CREATE TABLE address_key_progress (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    stage text NOT NULL CHECK (stage IN ('users', 'registrations', 'address_moves', 'mails')),
    after uuid                                          -- the last row that is done
);
INSERT INTO address_key_progress (stage)
SELECT 'users' WHERE EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM registrations) OR EXISTS (SELECT FROM mails);

-- Accounts that an operator has to look at.
--   shared    attempts to sign up from another mailbox had the same key
--   collides  another account has the key of its mailbox; this one has none that can be typed
CREATE TABLE address_findings (
    user_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    finding  text NOT NULL CHECK (finding IN ('shared', 'collides')),
    others   uuid[] NOT NULL,                           -- registrations, or the other account
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, finding)
);
