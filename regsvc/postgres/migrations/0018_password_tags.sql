-- Two bytes of a MAC over an attempt's password: of several attempts, they choose the one whose hash is compared.
-- Attempts from before have none, and are compared one after the other.
ALTER TABLE registrations ADD COLUMN password_tag bytea CHECK (length(password_tag) = 2);
