-- The end of a user is told after that of their sessions and factors, which a deletion takes along: at the commit.
CREATE OR REPLACE TRIGGER users_tell_new AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION tell_user();
CREATE CONSTRAINT TRIGGER users_tell_deleted AFTER DELETE ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tell_user();
