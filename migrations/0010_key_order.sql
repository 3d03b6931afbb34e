-- Which master key is the newest, and which were dropped, so that a node with an older copy of the key file undoes no
-- rotation (ADR 0035). number: 1 for the first, and no two alike.
-- dropped_at: in milliseconds since 1970, when `key rotate --drop-old` said that nothing is sealed with it.
ALTER TABLE key_check ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE key_check ADD COLUMN dropped_at BIGINT;
UPDATE key_check SET number = (
    SELECT COUNT(*) FROM key_check k
    WHERE k.created_at < key_check.created_at
        OR (k.created_at = key_check.created_at AND k.key_id <= key_check.key_id)
);
CREATE UNIQUE INDEX key_check_number ON key_check (number);
