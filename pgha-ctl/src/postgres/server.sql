-- What one server says of itself, and its physical walsenders: one row for each of them, one row with
-- NULLs where there are none. For a role that may not see it (pg_monitor may), the state of a
-- walsender, the number of client backends and the WAL receiver's timeline are NULL.
SELECT me.*,
       r.pid,
       r.application_name,
       host(r.client_addr) AS client,
       r.state,
       r.sync_state,
       r.replay_lsn,
       (extract(epoch FROM r.replay_lag) * 1000)::bigint AS replay_lag_ms
FROM (
    SELECT pg_is_in_recovery() AS in_recovery,
           CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn() END AS lsn,
           -- The timeline: of the WAL being written, or the newest of those received and replayed.
           CASE
               WHEN pg_is_in_recovery() THEN NULL
               ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8)
           END AS written_timeline,
           CASE
               WHEN pg_is_in_recovery() THEN
                   greatest(
                       (pg_control_recovery()).min_recovery_end_timeline,
                       (pg_control_checkpoint()).timeline_id,
                       (SELECT w.received_tli FROM pg_stat_wal_receiver AS w)
                   )
           END AS followed_timeline,
           (pg_control_system()).system_identifier AS system,
           pg_last_wal_receive_lsn() AS received,
           pg_last_wal_replay_lsn() AS replayed,
           (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint
               AS age_ms,
           (SELECT coalesce(w.status = 'streaming', true) FROM pg_stat_wal_receiver AS w)
               AS receiving,
           (SELECT CASE
                       WHEN bool_and(a.backend_type IS NOT NULL) THEN
                           count(*) FILTER (WHERE a.backend_type = 'client backend')
                   END
            FROM pg_stat_get_activity(NULL) AS a) AS used,
           current_setting('max_connections')::bigint AS most
) AS me
LEFT JOIN pg_stat_replication AS r ON NOT EXISTS (
    SELECT FROM pg_replication_slots AS s
    WHERE s.active_pid = r.pid AND s.slot_type = 'logical'
)
