-- Settings by which a commit is acknowledged that no voter has flushed: everybody's, and those of roles and
-- databases. What this very session has by its own role or database is told by the latter.
SELECT 'synchronous_commit = ' || setting || ' in ' || coalesce(sourcefile, 'the command line') AS lowered
FROM pg_settings
WHERE name = 'synchronous_commit' AND setting NOT IN ('on', 'remote_apply')
  AND source NOT IN ('database', 'user', 'database user')
UNION ALL
SELECT concat(
           'synchronous_commit', substr(s.set, length('synchronous_commit') + 1),
           ' for ', coalesce('role ' || r.rolname, 'every role'),
           ' in ', coalesce('database ' || d.datname, 'every database')
       )
FROM pg_db_role_setting AS p
CROSS JOIN LATERAL unnest(p.setconfig) AS s(set)
LEFT JOIN pg_roles AS r ON r.oid = p.setrole
LEFT JOIN pg_database AS d ON d.oid = p.setdatabase
WHERE s.set LIKE 'synchronous\_commit=%'
  AND lower(substr(s.set, length('synchronous_commit=') + 1)) NOT IN ('on', 'true', 'yes', '1', 'remote_apply')
ORDER BY 1
