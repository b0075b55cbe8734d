-- A browser's cookie has the number of its session's refresh token, and is renewed once a day. Until the browser sends
-- the renewed one, the previous one stays valid, since the response that set the new one may be lost.
ALTER TABLE sessions ADD COLUMN renewal_seen boolean NOT NULL DEFAULT true;
