-- Separate from the previous migration, like every check of rows that are there.
ALTER TABLE event_sinks VALIDATE CONSTRAINT event_sinks_disabled_has_reason;
ALTER TABLE event_sinks VALIDATE CONSTRAINT event_sinks_replay_has_place;
