-- The two statements in it were planned at every call, because the lengths of the arrays are guessed better then. That
-- took longer than executing them.
ALTER FUNCTION take_permits(bytea[], integer[], integer[]) SET plan_cache_mode = 'force_generic_plan';
