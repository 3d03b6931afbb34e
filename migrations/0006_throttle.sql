-- How often a password may be tried, the same on every node and after a restart (docs/adr/0028).

-- How often the account's count of failures was begun anew: what a node remembers of an earlier round counts no more.
ALTER TABLE account ADD COLUMN sign_in_round BIGINT NOT NULL DEFAULT 0;

-- The browsers in which an account signed in before, at most 20. Each has a count of its own, so that strangers who
-- guess lock nobody out.
CREATE TABLE known_browser (
    account_id TEXT NOT NULL REFERENCES account (id),
    browser_hash TEXT NOT NULL,
    failed_sign_ins BIGINT NOT NULL DEFAULT 0,
    blocked_until BIGINT NOT NULL DEFAULT 0,
    sign_in_round BIGINT NOT NULL DEFAULT 0,
    signed_in_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, browser_hash)
);
CREATE INDEX known_browser_signed_in ON known_browser (account_id, signed_in_at);
