//! Managed nodes: three real PostgreSQL under three agents, on a real etcd.
use anyhow::{Result, ensure};
use pgha_tests::lab::{AgentOptions, Managed};

/// Prepared nodes become a cluster by one order, which says first what it would do.
#[test]
fn netns_agent_init_adopts_prepared_nodes() -> Result<()> {
    let options = AgentOptions::default();
    let Some(managed) = Managed::prepared("netns_agent_init_adopts_prepared_nodes", &options)?
    else {
        return Ok(());
    };
    let db1 = managed.agent("db1")?;
    let dry = db1.pgha(&["init", "--adopt"])?.run()?;
    ensure!(
        dry.contains("db1 becomes the primary") && dry.contains("nothing is done yet"),
        "{dry}"
    );
    ensure!(db1.status()?.record.is_none(), "a dry run founds nothing");
    managed.found()?;
    db1.psql("insert into acknowledged values (1, 'db1')")?;
    let again = db1.pgha(&["init", "--adopt", "--yes"])?.output()?;
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && error.contains("was founded before"), "{error}");
    Ok(())
}
