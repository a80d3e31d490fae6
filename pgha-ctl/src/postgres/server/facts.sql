-- How far the server's log is, and what its receiver does. Of a primary: how far it has flushed.
SELECT pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END AS received,
       CASE WHEN pg_is_in_recovery() THEN receiver.flushed_lsn ELSE pg_current_wal_flush_lsn() END AS flushed,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END AS replayed,
       receiver.status AS receiver
FROM (SELECT 1) AS one
LEFT JOIN pg_stat_wal_receiver AS receiver ON true
