-- Whether this server is in recovery, the end of its WAL, and its physical walsenders.
-- The state of a walsender is NULL for a role that may not see it (pg_monitor may).
SELECT me.in_recovery,
       me.lsn,
       r.pid,
       r.application_name,
       host(r.client_addr) AS client,
       r.state,
       r.sync_state
FROM (
    SELECT pg_is_in_recovery() AS in_recovery,
           CASE
               WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
               ELSE pg_current_wal_lsn()
           END AS lsn
) AS me
LEFT JOIN pg_stat_replication AS r ON NOT EXISTS (
    SELECT FROM pg_replication_slots AS s
    WHERE s.active_pid = r.pid AND s.slot_type = 'logical'
)
