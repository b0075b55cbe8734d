-- The triggers of events look first whether a sink is there: without one they do nothing else. Separate from the
-- previous migrations: a sign-up locks its registration before it reads the sinks.
CREATE OR REPLACE FUNCTION tell_event(told text, about_kind text, about uuid, facts jsonb) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    told_id uuid;
    place bigint;
BEGIN
    INSERT INTO events (type, subject_kind, subject, data) VALUES (told, about_kind, about, jsonb_strip_nulls(facts))
        RETURNING events.id, events.n INTO told_id, place;
    -- What a disabled webhook misses is kept all the same: a replay sends it.
    INSERT INTO event_deliveries (sink_id, event_id, subject, n)
    SELECT s.id, told_id, about, place FROM event_sinks s
     WHERE s.ended_at IS NULL AND s.disabled_at IS NULL AND (s.types IS NULL OR told = ANY (s.types));
    PERFORM pg_notify('event_due', '');
END
$$;

-- A mail is told of as sent when the mail server takes it, and when a bounce turned out to be none. That a receiver
-- delayed it meanwhile takes nothing back.
CREATE OR REPLACE FUNCTION tell_registration() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    IF NOT EXISTS (SELECT FROM event_sinks s WHERE s.ended_at IS NULL) OR NEW.login_key IS NOT NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        told := 'created';
    ELSIF NEW.state IS DISTINCT FROM OLD.state AND NEW.state IN ('bounced', 'confirmed', 'expired', 'repudiated') THEN
        told := NEW.state;
    ELSIF NEW.delivered_at IS NOT NULL AND OLD.delivered_at IS NULL THEN
        told := 'delivered';
    ELSIF NEW.state = 'sent' AND (OLD.state IN ('queued', 'sending', 'bounced')
                                  OR OLD.state = 'delayed' AND NEW.expires_at IS DISTINCT FROM OLD.expires_at) THEN
        told := 'sent';
    ELSE
        RETURN NULL;
    END IF;
    PERFORM tell_event('registration.' || told, 'registration', NEW.id, jsonb_build_object(
        'registration', NEW.id, 'state', NEW.state, 'seq', NEW.seq,
        'kind', CASE told WHEN 'bounced' THEN coalesce(NEW.bounce_kind, 'hard') END,
        'reason', CASE told WHEN 'bounced' THEN NEW.reason END));
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER registrations_tell AFTER UPDATE OF state, delivered_at ON registrations
    FOR EACH ROW WHEN (NEW.state NOT IN ('queued', 'sending', 'delayed')
                       AND (OLD.state <> NEW.state OR OLD.delivered_at IS DISTINCT FROM NEW.delivered_at))
    EXECUTE FUNCTION tell_registration();

CREATE OR REPLACE FUNCTION tell_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text[];
BEGIN
    IF NOT EXISTS (SELECT FROM event_sinks s WHERE s.ended_at IS NULL) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM tell_event('user.created', 'user', NEW.id, jsonb_build_object('user', NEW.id, 'role', NEW.role));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM tell_event('user.deleted', 'user', OLD.id, jsonb_build_object('user', OLD.id));
    ELSE
        changed := array_remove(ARRAY[
            CASE WHEN OLD.name <> NEW.name THEN 'name' END,
            CASE WHEN OLD.locale <> NEW.locale THEN 'locale' END,
            CASE WHEN OLD.role <> NEW.role THEN 'role' END,
            CASE WHEN OLD.email <> NEW.email THEN 'email' END], NULL);
        IF changed <> '{}' THEN
            PERFORM tell_event('user.updated', 'user', NEW.id,
                jsonb_build_object('user', NEW.id, 'role', NEW.role, 'fields', to_jsonb(changed)));
        END IF;
        IF (OLD.disabled_at IS NULL) <> (NEW.disabled_at IS NULL) THEN
            PERFORM tell_event(CASE WHEN NEW.disabled_at IS NULL THEN 'user.enabled' ELSE 'user.disabled' END,
                'user', NEW.id, jsonb_build_object('user', NEW.id));
        END IF;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM event_sinks s WHERE s.ended_at IS NULL) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM tell_event('session.started', 'user', NEW.user_id,
            jsonb_build_object('user', NEW.user_id, 'session', NEW.id, 'amr', to_jsonb(NEW.amr)));
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM tell_event('session.ended', 'user', NEW.user_id,
            jsonb_build_object('user', NEW.user_id, 'session', NEW.id, 'reason', NEW.ended_reason));
    ELSIF OLD.ended_at IS NULL THEN
        PERFORM tell_event('session.ended', 'user', OLD.user_id,
            jsonb_build_object('user', OLD.user_id, 'session', OLD.id,
                'reason', CASE WHEN OLD.expires_at <= now() THEN 'expired' ELSE 'user_deleted' END));
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_factor() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    factor jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM event_sinks s WHERE s.ended_at IS NULL) THEN
        RETURN NULL;
    END IF;
    factor := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
    PERFORM tell_event(CASE TG_OP WHEN 'DELETE' THEN 'factor.removed' ELSE 'factor.added' END, 'user',
        (factor ->> 'user_id')::uuid,
        jsonb_build_object('user', factor -> 'user_id', 'factor', TG_ARGV[0],
            'id', CASE WHEN factor ? 'id' THEN factor -> 'id' END));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_report() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    about uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM event_sinks s WHERE s.ended_at IS NULL) THEN
        RETURN NULL;
    END IF;
    SELECT m.registration_id INTO about FROM mails m WHERE m.id = NEW.mail_id;
    PERFORM tell_event('mail.complained', CASE WHEN about IS NULL THEN 'mail' ELSE 'registration' END,
        coalesce(about, NEW.mail_id), jsonb_build_object('mail', NEW.mail_id, 'registration', about));
    RETURN NULL;
END
$$;
