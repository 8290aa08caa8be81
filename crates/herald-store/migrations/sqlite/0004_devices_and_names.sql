ALTER TABLE subscriptions ADD COLUMN alerts_allowed INTEGER;
ALTER TABLE subscriptions ADD COLUMN low_power_mode INTEGER;
ALTER TABLE subscriptions ADD COLUMN background_refresh INTEGER;
ALTER TABLE subscriptions ADD COLUMN reported_at INTEGER;
ALTER TABLE notifications ADD COLUMN app_notification_id TEXT;
CREATE INDEX notifications_by_name ON notifications (app_id, app_notification_id, id) WHERE app_notification_id IS NOT NULL;
CREATE INDEX subscriptions_ended_of_user ON subscriptions (app_id, user_id) WHERE ended_at IS NOT NULL;
