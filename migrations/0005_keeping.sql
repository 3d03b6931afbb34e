-- Keys that are rotated, backups that are restored, files that are imported (ADR 0022, 0023).

-- When the store first met a master key; 0 where an older version wrote the row.
ALTER TABLE key_check ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;

-- How often this store was restored from a backup. restored_at and backup_made_at: of the last time.
CREATE TABLE store_generation (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    n BIGINT NOT NULL,
    restored_at BIGINT,
    backup_made_at BIGINT
);
INSERT INTO store_generation (id, n) VALUES (1, 1);

-- What `doorward import` has taken, as a hash of the line (secrets left out), so that a second run takes nothing twice.
CREATE TABLE imported_line (
    line_hash TEXT NOT NULL PRIMARY KEY
);
