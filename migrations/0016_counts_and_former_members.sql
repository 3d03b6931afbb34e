-- What an account brings about as often as it likes is counted for each kind of event apart: failed trips to the provider,
-- recovery codes that were refused, questions to the admins (ADR 0046). Takes the place of sso_failure, which knew the
-- first alone.
CREATE TABLE counted_event (
    organization_id TEXT NOT NULL REFERENCES organization (id),
    account_id TEXT NOT NULL REFERENCES account (id),
    action TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    PRIMARY KEY (organization_id, account_id, action)
);
INSERT INTO counted_event (organization_id, account_id, action, began_at, events)
    SELECT organization_id, account_id, 'org.sso_login_failed', began_at, failures FROM sso_failure;
DROP TABLE sso_failure;
CREATE INDEX counted_event_account ON counted_event (account_id);
CREATE INDEX counted_event_began ON counted_event (began_at);

-- Whoever was a member once. While he is none and not linked, it is a question whose identity his is, whatever there was of
-- single sign-on when he left (ADR 0036).
CREATE TABLE former_member (
    organization_id TEXT NOT NULL REFERENCES organization (id),
    account_id TEXT NOT NULL REFERENCES account (id),
    left_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, account_id)
);
CREATE INDEX former_member_account ON former_member (account_id);
