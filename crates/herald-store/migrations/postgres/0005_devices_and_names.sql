-- What a device said of itself, for the trace: alerts allowed, low power mode, background refresh; and when it last said any.
ALTER TABLE subscriptions
    ADD COLUMN alerts_allowed     boolean,
    ADD COLUMN low_power_mode     boolean,
    ADD COLUMN background_refresh boolean,
    ADD COLUMN reported_at        timestamptz;
-- The producer's own id of a notification, for traces by it. Part of the content too. What is stored already, and lives for 30 days
-- at most, is found by its own id alone: rewriting every row would take long, and content may hold a \u0000 that jsonb refuses.
ALTER TABLE notifications ADD COLUMN app_notification_id text;
CREATE INDEX notifications_by_name ON notifications (app_id, app_notification_id, id) WHERE app_notification_id IS NOT NULL;
-- Erasure.
CREATE INDEX subscriptions_ended_of_user ON subscriptions (app_id, user_id) WHERE ended_at IS NOT NULL;
