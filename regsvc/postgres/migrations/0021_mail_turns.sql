-- A mail that waits because another mail has its address's turn is shown as what becomes of that one, and the turn of a
-- mail that ended unsent is free again: so a schedule says whose mail had its turn last.
ALTER TABLE mail_schedules ADD COLUMN mail_id uuid;
ALTER TABLE mails ADD COLUMN follows boolean NOT NULL DEFAULT false;  -- it has not had its address's turn yet
