-- Keys that sign the identity assertion (ES256). A key is published before it signs and after it has signed, so that a
-- change has no gap. Times are milliseconds since 1970.
CREATE TABLE assertion_key (
    kid TEXT NOT NULL PRIMARY KEY,
    private_key TEXT NOT NULL,
    public_x TEXT NOT NULL,
    public_y TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL
);
