-- How far one server is. Of a standby: what receivers have flushed since it was started (NULL before the first), and
-- what is replayed. Of a primary: what is flushed, and the timeline that it writes.
SELECT pg_is_in_recovery() AS in_recovery,
       pg_last_wal_receive_lsn() AS received,
       pg_last_wal_replay_lsn() AS replayed,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END AS flushed,
       CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END
           AS timeline
