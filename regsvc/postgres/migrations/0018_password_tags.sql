-- Two bytes of a MAC over an attempt's password. Of several attempts, they select the one whose hash is compared.
-- Older attempts have none, and are compared one after the other.
ALTER TABLE registrations ADD COLUMN password_tag bytea CHECK (length(password_tag) = 2);
