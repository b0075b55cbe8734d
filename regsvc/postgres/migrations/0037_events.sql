-- Events for other services. Triggers write them, in the transaction of what they tell and by whatever statement or
-- version of the program, and only while a sink wants them.
CREATE TABLE event_sinks (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind            text NOT NULL CHECK (kind IN ('exchange', 'webhook')),
    name            text NOT NULL,                      -- of the exchange; what an administrator calls a webhook
    url             text,
    types           text[],                             -- NULL: all
    sealed          bytea,                              -- the secret that signs; `sealed_with` names the key of the seal
    sealed_with     text,
    previous        bytea,                              -- the secret before a rotation, which signs beside it
    previous_with   text,
    previous_until  timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    seen_at         timestamptz NOT NULL DEFAULT now(), -- of an exchange: a process was configured for it
    succeeded_at    timestamptz,
    failing_since   timestamptz,
    ended_at        timestamptz,
    ended_reason    text,
    CONSTRAINT event_sinks_webhook_has_url CHECK ((kind = 'webhook') = (url IS NOT NULL)),
    CONSTRAINT event_sinks_webhook_has_secret CHECK (kind <> 'webhook' OR (sealed IS NOT NULL AND sealed_with IS NOT NULL)),
    CONSTRAINT event_sinks_ended_has_reason CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
);
CREATE UNIQUE INDEX event_sinks_exchange ON event_sinks (name) WHERE kind = 'exchange';

-- `n` is the order of what one transaction after the other did to a subject.
CREATE TABLE events (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    n            bigint GENERATED ALWAYS AS IDENTITY,
    type         text NOT NULL,
    subject_kind text NOT NULL CHECK (subject_kind IN ('registration', 'user', 'mail', 'webhook')),
    subject      uuid NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    data         jsonb NOT NULL
);
CREATE INDEX events_age ON events (at, id);

-- One job for each sink that an event goes to.
CREATE TABLE event_deliveries (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    sink_id     uuid NOT NULL REFERENCES event_sinks ON DELETE CASCADE,
    event_id    uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    subject     uuid NOT NULL,
    n           bigint NOT NULL,
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN (
                    'queued', 'sending', 'delayed', 'delivered', 'dead', 'cancelled')),
    due_at      timestamptz DEFAULT now(),
    lease       uuid,
    attempts    integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    status      integer,                                -- of the last answer
    reason      text,                                   -- of the last failure
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz,                            -- a repeated delivery has no place in the order
    CONSTRAINT event_deliveries_once UNIQUE (event_id, sink_id),
    CONSTRAINT event_deliveries_open_is_due CHECK ((state IN ('queued', 'sending', 'delayed')) = (due_at IS NOT NULL)),
    CONSTRAINT event_deliveries_sending_has_lease CHECK ((state = 'sending') = (lease IS NOT NULL))
);
CREATE INDEX event_deliveries_due ON event_deliveries (sink_id, due_at)
    WHERE state IN ('queued', 'sending', 'delayed');
CREATE INDEX event_deliveries_order ON event_deliveries (sink_id, subject, n)
    WHERE state IN ('queued', 'sending', 'delayed');
CREATE INDEX event_deliveries_list ON event_deliveries (sink_id, n);
CREATE INDEX event_deliveries_dead ON event_deliveries (sink_id, n) WHERE state = 'dead';

CREATE FUNCTION tell_event(told text, about_kind text, about uuid, facts jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    told_id uuid;
    place bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM event_sinks s WHERE s.ended_at IS NULL) THEN
        RETURN;
    END IF;
    INSERT INTO events (type, subject_kind, subject, data) VALUES (told, about_kind, about, jsonb_strip_nulls(facts))
        RETURNING events.id, events.n INTO told_id, place;
    INSERT INTO event_deliveries (sink_id, event_id, subject, n)
    SELECT s.id, told_id, about, place FROM event_sinks s
     WHERE s.ended_at IS NULL AND (s.types IS NULL OR told = ANY (s.types));
    PERFORM pg_notify('event_due', '');
END
$$;

-- Attempts walk through the same states whether or not their address has an account, so these tell no more than those.
CREATE FUNCTION tell_registration() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    IF NEW.login_key IS NOT NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        told := 'created';
    ELSIF NEW.state IS DISTINCT FROM OLD.state AND NEW.state IN ('bounced', 'confirmed', 'expired', 'repudiated') THEN
        told := NEW.state;
    ELSIF NEW.delivered_at IS NOT NULL AND OLD.delivered_at IS NULL THEN
        told := 'delivered';
    ELSIF NEW.state = 'sent' AND OLD.state IN ('queued', 'sending', 'delayed') THEN
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
CREATE TRIGGER registrations_tell_new AFTER INSERT ON registrations
    FOR EACH ROW EXECUTE FUNCTION tell_registration();
CREATE TRIGGER registrations_tell AFTER UPDATE OF state, delivered_at ON registrations
    FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.delivered_at IS DISTINCT FROM NEW.delivered_at)
    EXECUTE FUNCTION tell_registration();

CREATE FUNCTION tell_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text[];
BEGIN
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
CREATE TRIGGER users_tell_new AFTER INSERT OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION tell_user();
CREATE TRIGGER users_tell AFTER UPDATE OF name, locale, role, email, disabled_at ON users
    FOR EACH ROW EXECUTE FUNCTION tell_user();

CREATE FUNCTION tell_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
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
CREATE TRIGGER sessions_tell_new AFTER INSERT OR DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION tell_session();
CREATE TRIGGER sessions_tell AFTER UPDATE OF ended_at ON sessions
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION tell_session();

-- Its argument is the kind of factor. The row's own id is told where it has one.
CREATE FUNCTION tell_factor() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    factor jsonb := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
BEGIN
    PERFORM tell_event(CASE TG_OP WHEN 'DELETE' THEN 'factor.removed' ELSE 'factor.added' END, 'user',
        (factor ->> 'user_id')::uuid,
        jsonb_build_object('user', factor -> 'user_id', 'factor', TG_ARGV[0],
            'id', CASE WHEN factor ? 'id' THEN factor -> 'id' END));
    RETURN NULL;
END
$$;
CREATE TRIGGER totp_authenticators_tell AFTER INSERT OR DELETE ON totp_authenticators
    FOR EACH ROW EXECUTE FUNCTION tell_factor('totp');
CREATE TRIGGER passkeys_tell AFTER INSERT OR DELETE ON passkeys
    FOR EACH ROW EXECUTE FUNCTION tell_factor('passkey');
CREATE TRIGGER identities_tell AFTER INSERT OR DELETE ON identities
    FOR EACH ROW EXECUTE FUNCTION tell_factor('identity');

CREATE FUNCTION tell_report() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    about uuid;
BEGIN
    SELECT m.registration_id INTO about FROM mails m WHERE m.id = NEW.mail_id;
    PERFORM tell_event('mail.complained', CASE WHEN about IS NULL THEN 'mail' ELSE 'registration' END,
        coalesce(about, NEW.mail_id), jsonb_build_object('mail', NEW.mail_id, 'registration', about));
    RETURN NULL;
END
$$;
CREATE TRIGGER mail_reports_tell AFTER INSERT ON mail_reports
    FOR EACH ROW WHEN (NEW.event = 'complained') EXECUTE FUNCTION tell_report();
