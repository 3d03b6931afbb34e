-- Accounts of which it is a question whose identity theirs is: a member's single sign-on has left it to the admins, or they
-- have unlinked him. It goes when the account is linked, and outlives the membership: leaving answers nothing (ADR 0036).
CREATE TABLE link_question (
    connection_id TEXT NOT NULL REFERENCES connection (id),
    account_id TEXT NOT NULL REFERENCES account (id),
    issuer TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    PRIMARY KEY (connection_id, account_id, issuer)
);
CREATE INDEX link_question_account ON link_question (account_id);

-- How many accounts may still be made on the way by a link: no more than it lets in. NULL: without limit, as its uses.
ALTER TABLE invitation ADD COLUMN sign_ups_left BIGINT NOT NULL DEFAULT 0;
UPDATE invitation SET sign_ups_left = uses_left;
ALTER TABLE join_link ADD COLUMN sign_ups_left BIGINT;
UPDATE join_link SET sign_ups_left = uses_left;

-- When an external collaborator needs single sign-on again as everybody; NULL: never.
ALTER TABLE membership ADD COLUMN external_until BIGINT;
CREATE INDEX membership_external ON membership (organization_id) WHERE external_collaborator = 1;
