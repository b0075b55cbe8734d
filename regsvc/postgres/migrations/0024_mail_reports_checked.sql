-- Apart from the migration that adds it: in one transaction, the validation would hold that one's lock.
ALTER TABLE registrations VALIDATE CONSTRAINT registrations_delayed_has_next_try;
