-- Every walsender, also those that are no standbys.
SELECT r.application_name,
       host(r.client_addr) AS client,
       r.state,
       r.sync_state,
       EXISTS (
           SELECT FROM pg_replication_slots AS s
           WHERE s.active_pid = r.pid AND s.slot_type = 'logical'
       ) AS logical
FROM pg_stat_replication AS r
