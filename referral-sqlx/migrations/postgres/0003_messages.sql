-- Delivery status of messages, and the gateway that accepted the message of a challenge. The region is the
-- only information about the recipient of a message.

CREATE TABLE referral.messages (
    gateway text COLLATE "C" NOT NULL CHECK (char_length(gateway) BETWEEN 1 AND 64),
    -- Id that the gateway gave to the message.
    message_id text COLLATE "C" NOT NULL CHECK (char_length(message_id) BETWEEN 1 AND 128),
    -- Whether it is recorded that this service sent the message. Before that, there is only a report.
    is_ours boolean NOT NULL,
    region text COLLATE "C" CHECK (region ~ '^[A-Z]{2}$'),
    status text COLLATE "C" NOT NULL CHECK (status IN ('sent', 'failed', 'delivered')),
    -- Time of the first record. Old messages are deleted by this time.
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, message_id),
    CHECK (is_ours OR (region IS NULL AND status <> 'sent'))
-- A report changes columns without an index. With free space on the page, it does not update any index.
) WITH (fillfactor = 85);

CREATE INDEX messages_by_time ON referral.messages (recorded_at);

ALTER TABLE referral.challenges ADD gateway text COLLATE "C" CHECK (char_length(gateway) BETWEEN 1 AND 64);
