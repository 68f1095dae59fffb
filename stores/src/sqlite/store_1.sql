-- Records and messages have one number as their key, `owner.id << 32 | seq`: one tree, neighbours together.
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    run_id TEXT NOT NULL,
    graph TEXT NOT NULL,
    status TEXT NOT NULL,
    actor TEXT,
    last_seq INTEGER NOT NULL,
    snapshot_seq INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until_ms INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (tenant, run_id)
) STRICT;
CREATE INDEX run_newest ON run (tenant, created_ms DESC, run_id);

CREATE TABLE record (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    title TEXT,
    locked TEXT,
    actor TEXT,
    last_seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (tenant, conversation_id)
) STRICT;
CREATE INDEX conversation_changed ON conversation (tenant, updated_ms DESC, conversation_id);

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    parent INTEGER,
    is_partial INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    actor TEXT,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE prompt (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    note TEXT,
    actor TEXT,
    at_ms INTEGER NOT NULL,
    UNIQUE (tenant, key, version)
) STRICT;

CREATE TABLE active_prompt (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (tenant, key),
    FOREIGN KEY (tenant, key, version) REFERENCES prompt (tenant, key, version) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    usage_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    run_id TEXT,
    actor TEXT,
    input_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    cache_write_1h_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    is_estimated INTEGER NOT NULL,
    micro_usd INTEGER,
    UNIQUE (tenant, usage_id)
) STRICT;
CREATE INDEX usage_by_time ON usage (tenant, at_ms, usage_id);
