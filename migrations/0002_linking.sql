-- First links that need a decision, guests, and recovery codes (architecture.md §3 Linking and rule 12).

-- Whom a provider named in one finished trip, held for a decision: pinned to the connection's revision, the identity and
-- the account that went. session_id: the browser session that went; NULL once an admin was asked, so that a request
-- outlives it. The newest trip of an account gives way to no older one.
CREATE TABLE held_identity (
    handle_hash TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    connection_id TEXT NOT NULL REFERENCES connection (id),
    revision BIGINT NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('sign_in', 'join')),
    account_id TEXT NOT NULL REFERENCES account (id),
    session_id TEXT REFERENCES browser_session (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    sub TEXT NOT NULL,
    email TEXT,
    display_name TEXT,
    is_guest BIGINT NOT NULL CHECK (is_guest IN (0, 1)),
    email_unverified BIGINT NOT NULL CHECK (email_unverified IN (0, 1)),
    next TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    requested_at BIGINT,
    expires_at BIGINT NOT NULL,
    UNIQUE (connection_id, account_id)
);
CREATE INDEX held_identity_organization ON held_identity (organization_id, requested_at);
CREATE INDEX held_identity_account ON held_identity (account_id);
CREATE INDEX held_identity_session ON held_identity (session_id);
CREATE INDEX held_identity_expires ON held_identity (expires_at);

-- Who approved a link that the address alone did not make; NULL: the address, or the account's own Enable.
ALTER TABLE identity ADD COLUMN approved_by TEXT;

-- Whether the provider's guests may be linked.
ALTER TABLE connection ADD COLUMN guests_may_link BIGINT NOT NULL DEFAULT 0;

-- The newest set of an organization's recovery codes; making new ones deletes the old.
CREATE TABLE recovery_code (
    organization_id TEXT NOT NULL REFERENCES organization (id),
    number BIGINT NOT NULL,
    code_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (organization_id, number),
    UNIQUE (organization_id, code_hash)
);

-- What a used code has opened: rule 12's actions, in one browser session, until expires_at.
CREATE TABLE recovery (
    session_id TEXT NOT NULL REFERENCES browser_session (id) ON DELETE CASCADE,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (session_id, organization_id)
);
CREATE INDEX recovery_organization ON recovery (organization_id);
CREATE INDEX recovery_expires ON recovery (expires_at);
