-- How often single sign-on of an account failed at an organization in the hour that began then, counted so that nobody fills
-- a log that is never emptied (ADR 0046).
CREATE TABLE sso_failure (
    organization_id TEXT NOT NULL REFERENCES organization (id),
    account_id TEXT NOT NULL REFERENCES account (id),
    began_at BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    PRIMARY KEY (organization_id, account_id)
);
CREATE INDEX sso_failure_account ON sso_failure (account_id);
CREATE INDEX sso_failure_began ON sso_failure (began_at);
