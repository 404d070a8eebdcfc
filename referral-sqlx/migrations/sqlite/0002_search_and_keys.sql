-- An index over the search, and the keys of those who share the database.

-- The number that stands for a user in the index. It rises with each user who is added.
CREATE TABLE user_numbers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id BLOB NOT NULL UNIQUE REFERENCES users (id)
) STRICT;

INSERT INTO user_numbers (user_id) SELECT id FROM users ORDER BY id;

-- From grams, the pieces of what users are searched in, to users. The program writes the grams as words, so it
-- keeps neither a text nor places in it.
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
