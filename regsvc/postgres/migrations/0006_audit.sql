-- What happened that matters for security, by whom and to whom. Rows are only ever added: no statement changes or
-- deletes one, but for forgetting what is personal when an account goes, and what is older than anybody keeps it.
CREATE TABLE audit_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    event      text NOT NULL CHECK (event <> ''),
    actor      text NOT NULL CHECK (actor IN ('user', 'admin', 'operator', 'anonymous', 'service')),
    actor_id   uuid,                                 -- of the user or administrator who did it
    user_id    uuid,                                 -- whom it is about; the row outlives them
    session_id uuid,
    origin     text,                                 -- the network prefix that it came from
    client     text,                                 -- a short word for the client's software
    request_id text,
    details    jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT audit_events_person_has_id CHECK ((actor IN ('user', 'admin')) = (actor_id IS NOT NULL))
);
CREATE INDEX audit_events_user ON audit_events (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_events_event ON audit_events (event, id);
CREATE INDEX audit_events_at ON audit_events (at);

-- Against mistakes and injected statements, not against whoever owns the database.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('regsvc.audit_upkeep', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION 'the audit log is only ever added to';
END
$$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_events_not_truncated BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
