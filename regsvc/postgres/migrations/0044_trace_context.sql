-- The span that a mail or a delivery is of: 16 bytes of trace and 8 of span. Every statement that adds one writes it,
-- since the transaction of a traced request says so (`regsvc.postgres.session`). NULL: the request was not traced.
ALTER TABLE mails ADD COLUMN trace_context bytea;
ALTER TABLE mails ALTER COLUMN trace_context SET DEFAULT decode(nullif(current_setting('regsvc.trace', true), ''), 'hex');
ALTER TABLE mails ADD CONSTRAINT mails_trace_context CHECK (octet_length(trace_context) = 24) NOT VALID;
ALTER TABLE event_deliveries ADD COLUMN trace_context bytea;
ALTER TABLE event_deliveries ALTER COLUMN trace_context
    SET DEFAULT decode(nullif(current_setting('regsvc.trace', true), ''), 'hex');
ALTER TABLE event_deliveries ADD CONSTRAINT event_deliveries_trace_context
    CHECK (octet_length(trace_context) = 24) NOT VALID;
