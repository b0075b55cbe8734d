-- Apart from their making, so that reading the table holds up nobody.
ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_actor_known;
ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_actor_has_id;
