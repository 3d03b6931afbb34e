-- Personal access tokens (ADR 0040).

CREATE TABLE access_token (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    ceiling TEXT NOT NULL CHECK (ceiling IN ('read', 'contributor', 'write', 'admin')),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE INDEX access_token_account ON access_token (account_id, created_at);
CREATE INDEX access_token_expires ON access_token (expires_at);

-- Its owner's word, given in an SSO session, that a token may reach an organization. It counts under the epoch that it
-- was given in, as an SSO session does.
CREATE TABLE token_authorization (
    token_id TEXT NOT NULL REFERENCES access_token (id) ON DELETE CASCADE,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    epoch BIGINT NOT NULL,
    authorized_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, organization_id)
);
CREATE INDEX token_authorization_organization ON token_authorization (organization_id);

-- When a member last completed SSO in any browser, and under which epoch.
ALTER TABLE membership ADD COLUMN last_sso_at BIGINT;
ALTER TABLE membership ADD COLUMN last_sso_epoch BIGINT;

-- For how many days after that his tokens reach the organization.
ALTER TABLE organization ADD COLUMN token_sso_days BIGINT NOT NULL DEFAULT 30 CHECK (token_sso_days BETWEEN 1 AND 30);
