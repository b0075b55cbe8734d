-- Separate from the previous migration, so that both tables can be read and written while their rows are checked.
ALTER TABLE mails VALIDATE CONSTRAINT mails_trace_context;
ALTER TABLE event_deliveries VALIDATE CONSTRAINT event_deliveries_trace_context;
