-- A browser's cookie has the number of its session's refresh token, and is renewed once a day. Until the browser has
-- shown the renewed one, the one before is still good: the answer that brought it may be lost.
ALTER TABLE sessions ADD COLUMN renewal_seen boolean NOT NULL DEFAULT true;
