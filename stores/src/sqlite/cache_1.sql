CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    until_ms INTEGER,
    UNIQUE (tenant, key)
) STRICT;
CREATE INDEX entry_until ON entry (until_ms) WHERE until_ms IS NOT NULL;
