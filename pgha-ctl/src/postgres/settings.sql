-- The settings that decide whether a server can be a reader, or have one.
SELECT name, setting
FROM pg_settings
WHERE name IN (
    'hot_standby', 'listen_addresses', 'max_connections', 'max_locks_per_transaction',
    'max_prepared_transactions', 'max_standby_streaming_delay', 'max_wal_senders',
    'max_worker_processes', 'synchronous_standby_names', 'wal_level', 'wal_receiver_timeout',
    'wal_sender_timeout'
)
