-- Tokens with which programs read an organization by the JSON API (docs/adr/0041). The token itself is never kept.
-- Times are milliseconds since 1970. `scopes`: names parted by blanks.
CREATE TABLE api_token (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organization (id),
    token_hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_by_name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE INDEX api_token_organization ON api_token (organization_id, created_at);
CREATE INDEX api_token_expires ON api_token (expires_at);
