-- What the service's own hook adds to a sign-up, for the user that comes of it.
ALTER TABLE registrations ADD COLUMN app_data jsonb;
ALTER TABLE users ADD COLUMN app_data jsonb;
