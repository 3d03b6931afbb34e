-- Which keys of the audit log there are, since when, with their public halves: one row, sealed with the master key, so
-- that keys which are gone are missed and never quietly replaced (ADR 0034).
CREATE TABLE audit_mark (
    id TEXT NOT NULL PRIMARY KEY CHECK (id = 'keys'),
    sealed TEXT NOT NULL
);
