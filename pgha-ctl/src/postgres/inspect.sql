-- What a server is, and whether this role may see what pgha needs.
SELECT current_setting('server_version_num') AS version,
       pg_is_in_recovery() AS in_recovery,
       (SELECT system_identifier FROM pg_control_system()) AS system,
       CASE
           WHEN pg_is_in_recovery() THEN greatest(
               (pg_control_recovery()).min_recovery_end_timeline,
               (pg_control_checkpoint()).timeline_id,
               (SELECT received_tli FROM pg_stat_wal_receiver)
           )
           ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
       END AS timeline,
       pg_has_role('pg_monitor', 'USAGE') AS monitor
