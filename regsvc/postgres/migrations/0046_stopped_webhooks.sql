-- Webhooks are disabled for a time, and what sends to them carries on with replays that were asked for.
ALTER TABLE event_sinks
    ADD COLUMN disabled_at     timestamptz,
    ADD COLUMN disabled_reason text,
    ADD COLUMN replay_at       timestamptz,             -- a replay has got to the events after this time,
    ADD COLUMN replay_after    uuid,                    -- and at this time after this id
    ADD CONSTRAINT event_sinks_disabled_has_reason CHECK (
        (disabled_at IS NULL) = (disabled_reason IS NULL)) NOT VALID,
    ADD CONSTRAINT event_sinks_replay_has_place CHECK ((replay_at IS NULL) = (replay_after IS NULL)) NOT VALID;
