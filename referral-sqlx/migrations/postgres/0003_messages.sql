-- What became of messages, and which gateway accepted that of a challenge. Nothing here tells to whom a
-- message went but its region.

CREATE TABLE referral.messages (
    gateway text COLLATE "C" NOT NULL CHECK (char_length(gateway) BETWEEN 1 AND 64),
    -- What the gateway calls the message.
    message_id text COLLATE "C" NOT NULL CHECK (char_length(message_id) BETWEEN 1 AND 128),
    -- Whether it is noted that it was sent from here. Until then there is only a report.
    is_ours boolean NOT NULL,
    region text COLLATE "C" CHECK (region ~ '^[A-Z]{2}$'),
    status text COLLATE "C" NOT NULL CHECK (status IN ('sent', 'failed', 'delivered')),
    -- When it was first heard of: what it is swept by.
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, message_id),
    CHECK (is_ours OR (region IS NULL AND status <> 'sent'))
-- A report changes columns that are in no index: with room on the page it touches none either.
) WITH (fillfactor = 85);

CREATE INDEX messages_by_time ON referral.messages (noted_at);

ALTER TABLE referral.challenges ADD gateway text COLLATE "C" CHECK (char_length(gateway) BETWEEN 1 AND 64);
