-- How many people confirm soon after their mail was accepted, by receiver family, compared with the family before.
CREATE TABLE confirmation_radar (
    family           text PRIMARY KEY,
    recent           integer NOT NULL,
    recent_confirmed integer NOT NULL,
    before           integer NOT NULL,
    before_confirmed integer NOT NULL,
    median           double precision,                  -- seconds from acceptance to confirmation
    astray           boolean NOT NULL DEFAULT false,    -- out of the family's own band
    changed_at       timestamptz NOT NULL DEFAULT now(),
    refreshed_at     timestamptz NOT NULL DEFAULT now()
);
