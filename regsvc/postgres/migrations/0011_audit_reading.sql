-- Few events are of those who run the service, and many lie between them; and an answer or a log line names a request.
CREATE INDEX audit_events_by_hand ON audit_events (actor, id) WHERE actor IN ('admin', 'operator', 'service');
CREATE INDEX audit_events_request ON audit_events (request_id, id) WHERE request_id IS NOT NULL;
