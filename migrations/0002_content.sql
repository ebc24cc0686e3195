-- What step workflows are made of, as each host's daemon last read it from its folders.
CREATE TABLE content (
    host TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The content folder, and the file below it.
    folder TEXT NOT NULL,
    path TEXT NOT NULL,
    -- SHA-256 of the file as it is on disk.
    hash TEXT NOT NULL,
    -- The last good version, which an invalid file keeps; NULL where there never was one.
    json TEXT,
    body TEXT,
    valid BOOLEAN NOT NULL,
    problems TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (host, kind, name)
);
