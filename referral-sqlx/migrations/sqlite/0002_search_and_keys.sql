-- Search index, and the keys of the processes that share the database.

-- Number of a user in the search index. It increases with each added user.
CREATE TABLE user_numbers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id BLOB NOT NULL UNIQUE REFERENCES users (id)
) STRICT;

INSERT INTO user_numbers (user_id) SELECT id FROM users ORDER BY id;

-- Index from grams, which are pieces of the searched texts, to users. The program writes the grams as words.
-- The index stores neither the text nor positions.
CREATE VIRTUAL TABLE user_grams USING fts5 (
    grams, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);

CREATE TABLE keys (
    purpose TEXT NOT NULL CHECK (purpose IN ('signing', 'pepper')),
    id TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (octet_length(fingerprint) = 16),
    -- NULL while the key is the first of a ring.
    needed_until INTEGER,
    PRIMARY KEY (purpose, id)
) STRICT, WITHOUT ROWID;
