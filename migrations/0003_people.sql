-- Joining: invitations by link, the SSO join link, and attempts whose purpose is to join.

-- A link that makes whoever holds it a member, while the organization has no single sign-on. created_by is NULL for the
-- operator's. ended says why it works no longer before its time; a row is deleted some weeks after it has expired.
CREATE TABLE invitation (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    token_hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('no_access', 'read', 'contributor', 'write', 'admin')),
    account_id TEXT REFERENCES account (id),
    uses_left BIGINT NOT NULL CHECK (uses_left >= 0),
    created_by TEXT REFERENCES account (id),
    created_by_name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended TEXT CHECK (ended IN ('revoked', 'voided')),
    -- Rule 14: an invitation to admin is for one named account, once.
    CHECK (role <> 'admin' OR (account_id IS NOT NULL AND uses_left <= 1))
);
CREATE INDEX invitation_organization ON invitation (organization_id, created_at);
CREATE INDEX invitation_created_by ON invitation (created_by, organization_id);
CREATE INDEX invitation_account ON invitation (account_id);
CREATE INDEX invitation_expires ON invitation (expires_at);

-- The organization's SSO join link. It opens nothing by itself: whoever holds it must sign in at the provider. So it is
-- shown to admins again: sealed beside its hash. uses_left NULL: without limit.
CREATE TABLE join_link (
    organization_id TEXT NOT NULL PRIMARY KEY REFERENCES organization (id),
    token_hash TEXT NOT NULL UNIQUE,
    sealed TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('no_access', 'read', 'contributor', 'write')),
    uses_left BIGINT CHECK (uses_left >= 0),
    created_by TEXT REFERENCES account (id),
    created_by_name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX join_link_created_by ON join_link (created_by, organization_id);

-- SQLite can't change a CHECK: the table is built anew, with room for the purpose 'join' and the join link's hash.
CREATE TABLE attempt_anew (
    state_hash TEXT NOT NULL PRIMARY KEY,
    browser_hash TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    connection_id TEXT NOT NULL REFERENCES connection (id),
    revision BIGINT NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('test', 'sign_in', 'join')),
    join_hash TEXT CHECK ((join_hash IS NOT NULL) = (purpose = 'join')),
    account_id TEXT NOT NULL REFERENCES account (id),
    session_id TEXT NOT NULL REFERENCES browser_session (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    next TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
INSERT INTO attempt_anew (state_hash, browser_hash, organization_id, connection_id, revision, purpose, account_id,
    session_id, sealed, next, created_at, expires_at)
    SELECT state_hash, browser_hash, organization_id, connection_id, revision, purpose, account_id,
    session_id, sealed, next, created_at, expires_at FROM attempt;
DROP TABLE attempt;
ALTER TABLE attempt_anew RENAME TO attempt;
CREATE INDEX attempt_browser ON attempt (browser_hash, created_at);
CREATE INDEX attempt_session ON attempt (session_id);
CREATE INDEX attempt_organization ON attempt (organization_id);
CREATE INDEX attempt_account ON attempt (account_id);
CREATE INDEX attempt_expires ON attempt (expires_at);

-- What is held for somebody who wants to join: by which join link.
ALTER TABLE held_identity ADD COLUMN join_hash TEXT;
