-- Numbers the wire needs as integers. Taken with Tx::next_counter, inside the transaction that
-- stores what the number names, so that a rolled-back row gives its number back.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
