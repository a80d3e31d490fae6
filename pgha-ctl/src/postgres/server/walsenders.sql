-- Who streams from here, as a person wants to see it.
SELECT application_name AS name,
       state,
       sync_state,
       flush_lsn AS flushed,
       replay_lsn AS replayed,
       (extract(epoch FROM replay_lag) * 1000)::bigint AS lag_ms
FROM pg_stat_replication
WHERE state <> 'backup'
