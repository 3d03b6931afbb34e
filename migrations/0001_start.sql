-- One SQL text for SQLite and PostgreSQL: TEXT and BIGINT only. Times are milliseconds since 1970, flags are 0 or 1,
-- ids are UUIDs, hashes are SHA-256 in Base64url. Names of tables are singular, as the words of the design.

-- One namespace for accounts and organizations. Rows are never deleted: a name is never given again (rule 7).
CREATE TABLE name (
    name_key TEXT NOT NULL PRIMARY KEY,
    spelled TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('account', 'organization')),
    owner_id TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE account (
    id TEXT NOT NULL PRIMARY KEY,
    name_key TEXT NOT NULL UNIQUE REFERENCES name (name_key),
    full_name TEXT NOT NULL,
    password_hash TEXT,
    operator BIGINT NOT NULL DEFAULT 0 CHECK (operator IN (0, 1)),
    disabled BIGINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    failed_sign_ins BIGINT NOT NULL DEFAULT 0,
    blocked_until BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

CREATE TABLE account_email (
    account_id TEXT NOT NULL REFERENCES account (id),
    email_key TEXT NOT NULL,
    address TEXT NOT NULL,
    proved_at BIGINT,
    is_primary BIGINT NOT NULL DEFAULT 0 CHECK (is_primary IN (0, 1)),
    PRIMARY KEY (account_id, email_key)
);
-- A proved address belongs to one account (rule 13).
CREATE UNIQUE INDEX account_email_proved ON account_email (email_key) WHERE proved_at IS NOT NULL;

-- The one-time link of the first start, and nothing else.
CREATE TABLE operator_link (
    token_hash TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE organization (
    id TEXT NOT NULL PRIMARY KEY,
    name_key TEXT NOT NULL UNIQUE REFERENCES name (name_key),
    display_name TEXT NOT NULL,
    plan TEXT NOT NULL CHECK (plan IN ('free', 'team', 'enterprise')),
    session_timeout BIGINT NOT NULL CHECK (session_timeout > 0),
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);

CREATE TABLE membership (
    organization_id TEXT NOT NULL REFERENCES organization (id),
    account_id TEXT NOT NULL REFERENCES account (id),
    role TEXT NOT NULL CHECK (role IN ('no_access', 'read', 'contributor', 'write', 'admin')),
    external_collaborator BIGINT NOT NULL DEFAULT 0 CHECK (external_collaborator IN (0, 1)),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, account_id)
);
CREATE INDEX membership_account ON membership (account_id);

-- prefix: the literal segments of the pattern before {org}, '' for /{org}/{resource}.
CREATE TABLE resource (
    organization_id TEXT NOT NULL REFERENCES organization (id),
    prefix TEXT NOT NULL,
    name_key TEXT NOT NULL,
    name TEXT NOT NULL,
    is_public BIGINT NOT NULL CHECK (is_public IN (0, 1)),
    PRIMARY KEY (organization_id, prefix, name_key)
);

-- draft and live point at revisions. epoch grows when the live issuer changes and at Disable: an SSO session counts
-- only under the epoch it was made in.
CREATE TABLE connection (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL UNIQUE REFERENCES organization (id),
    protocol TEXT NOT NULL CHECK (protocol IN ('oidc')),
    draft BIGINT,
    live BIGINT,
    enforcement TEXT NOT NULL CHECK (enforcement IN ('enforced', 'optional')),
    epoch BIGINT NOT NULL DEFAULT 0
);

-- Written once and never changed; a revision's test has a table of its own. The columns from issuer on are frozen
-- from the provider's metadata, NULL where discovery failed.
CREATE TABLE revision (
    connection_id TEXT NOT NULL REFERENCES connection (id),
    number BIGINT NOT NULL,
    issuer_url TEXT NOT NULL,
    client_id TEXT NOT NULL,
    client_secret TEXT NOT NULL,
    client_secret_end TEXT NOT NULL,
    client_auth_method TEXT,
    scopes TEXT NOT NULL,
    userinfo TEXT NOT NULL CHECK (userinfo IN ('when_needed', 'always')),
    email_claim TEXT NOT NULL,
    hosted_domains TEXT NOT NULL,
    created_by TEXT,
    created_at BIGINT NOT NULL,
    metadata TEXT,
    PRIMARY KEY (connection_id, number)
);

-- How the newest test of a revision ended, who did it in which browser, and whom the provider named.
CREATE TABLE revision_test (
    connection_id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('failed', 'passed')),
    findings TEXT NOT NULL,
    claims TEXT NOT NULL,
    account_id TEXT,
    browser_hash TEXT,
    issuer TEXT,
    subject TEXT,
    sub TEXT,
    email TEXT,
    display_name TEXT,
    tested_at BIGINT NOT NULL,
    PRIMARY KEY (connection_id, revision),
    FOREIGN KEY (connection_id, revision) REFERENCES revision (connection_id, number)
);

-- Who the provider's person is here. One account for an identity, one identity of an issuer for an account.
CREATE TABLE identity (
    connection_id TEXT NOT NULL REFERENCES connection (id),
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    sub TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES account (id),
    email TEXT,
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (connection_id, issuer, subject),
    UNIQUE (connection_id, issuer, account_id)
);
CREATE INDEX identity_account ON identity (account_id);

CREATE TABLE browser_session (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL REFERENCES account (id),
    created_at BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL
);
CREATE INDEX browser_session_account ON browser_session (account_id, last_seen_at);
CREATE INDEX browser_session_last_seen ON browser_session (last_seen_at);

CREATE TABLE sso_session (
    session_id TEXT NOT NULL REFERENCES browser_session (id) ON DELETE CASCADE,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    epoch BIGINT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    PRIMARY KEY (session_id, organization_id)
);
CREATE INDEX sso_session_organization ON sso_session (organization_id);

-- A session on an application's host: a child of the browser session (rule 11).
CREATE TABLE host_session (
    token_hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES browser_session (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX host_session_session ON host_session (session_id);

CREATE TABLE ticket (
    ticket_hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES browser_session (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    handover_hash TEXT NOT NULL,
    next TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX ticket_session ON ticket (session_id);
CREATE INDEX ticket_expires ON ticket (expires_at);

-- One trip of a browser to the provider, taken once by its state.
CREATE TABLE attempt (
    state_hash TEXT NOT NULL PRIMARY KEY,
    browser_hash TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    connection_id TEXT NOT NULL REFERENCES connection (id),
    revision BIGINT NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('test', 'sign_in')),
    account_id TEXT NOT NULL REFERENCES account (id),
    session_id TEXT NOT NULL REFERENCES browser_session (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    next TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX attempt_browser ON attempt (browser_hash, created_at);
CREATE INDEX attempt_session ON attempt (session_id);
CREATE INDEX attempt_organization ON attempt (organization_id);
CREATE INDEX attempt_account ON attempt (account_id);
CREATE INDEX attempt_expires ON attempt (expires_at);

-- What became of an attempt: read only to explain a reload or to take a person on. Kept for 24 hours.
CREATE TABLE spent_attempt (
    state_hash TEXT NOT NULL PRIMARY KEY,
    browser_hash TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    next TEXT NOT NULL,
    outcome TEXT NOT NULL,
    spent_at BIGINT NOT NULL
);
CREATE INDEX spent_attempt_spent ON spent_attempt (spent_at);

-- scope: an organization's id, or 'system' for what concerns none. No foreign key: events outlive the organization.
CREATE TABLE audit_sequence (
    scope TEXT NOT NULL PRIMARY KEY,
    n BIGINT NOT NULL
);
CREATE TABLE audit_event (
    scope TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL,
    action TEXT NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('account', 'operator', 'system')),
    actor_id TEXT,
    actor_name TEXT NOT NULL,
    details TEXT NOT NULL,
    address TEXT,
    request_id TEXT,
    PRIMARY KEY (scope, sequence)
);
CREATE INDEX audit_event_action ON audit_event (scope, action, sequence);

-- What other nodes must forget, in commit order (rule 16).
CREATE TABLE change_counter (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    n BIGINT NOT NULL
);
INSERT INTO change_counter (id, n) VALUES (1, 0);
CREATE TABLE change (
    n BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('account', 'organization', 'resource')),
    item TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (n, kind, item)
);
CREATE INDEX change_at ON change (at);

-- Proves that the master key is the one that sealed this store: a known text, sealed.
CREATE TABLE key_check (
    key_id TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL
);
