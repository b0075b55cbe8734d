-- The version of the terms of use that a sign-up accepted, and the one that a user accepted last. NULL: none.
ALTER TABLE registrations ADD COLUMN terms text;
ALTER TABLE users
    ADD COLUMN terms    text,
    ADD COLUMN terms_at timestamptz;
