-- The audit log's hash chain (ADR 0021). hash: SHA-256 over the event and the hash before it; mac: HMAC over that hash,
-- as v1.KEYID.BASE64URL. Both are NULL in events from before this migration: audit.chain_start binds those.
ALTER TABLE audit_event ADD COLUMN hash TEXT;
ALTER TABLE audit_event ADD COLUMN mac TEXT;

-- hash: that of event n, where the next one goes on. checkpoint_at: when the scope's newest checkpoint was signed.
ALTER TABLE audit_sequence ADD COLUMN hash TEXT;
ALTER TABLE audit_sequence ADD COLUMN checkpoint_at BIGINT NOT NULL DEFAULT 0;

-- Random keys of the chain and of its checkpoints, sealed with the master key. The newest is used, old ones verify.
CREATE TABLE audit_key (
    id TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- What the log was at a time, signed. Worth most where the database's writers can't reach it: copy it away.
CREATE TABLE audit_checkpoint (
    scope TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL,
    hash TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (scope, sequence)
);

-- Wrong passwords for one account since began_at, for an hour: one row an account, so strangers add events by the hour
-- and not by the guess (rule 9).
CREATE TABLE sign_in_failure (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    began_at BIGINT NOT NULL,
    failures BIGINT NOT NULL
);
CREATE INDEX sign_in_failure_began ON sign_in_failure (began_at);
