-- Who streams from here, in whose name. A base backup is nobody who could wait for a commit, nor does anybody wait
-- for a logical receiver that is not on the list.
SELECT pid,
       application_name AS name,
       usename AS role,
       state,
       flush_lsn AS flushed
FROM pg_stat_replication
WHERE state <> 'backup'
