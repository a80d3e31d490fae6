//! Who judges the scenarios of managed nodes finds what is wrong when it really happens: here on hosts and servers that
//! nobody manages.
use std::time::Instant;

use anyhow::{Result, ensure};
use pgha_machine::failover::record::Term;
use pgha_machine::{Epoch, Lsn, Position, Timeline};
use pgha_tests::lab::capture::Capture;
use pgha_tests::lab::invariants::{
    are_there, claim, one_owner, one_primary_at_a_time, readers_meet_standbys,
};
use pgha_tests::lab::{Host, Lab, Reader, SOON, WRITER_VIP, Writer, wait_for};

/// Two hosts say in turn that an address is theirs (I3).
#[test]
fn netns_invariants_see_an_address_that_two_hosts_claim() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2] = &lab.hosts(&["db1", "db2"])?[..] else { unreachable!("there are two") };
    let capture = Capture::at_switch(&lab.host("client")?, "arp")?;
    // Gratuitous ARP (RFC 5227, section 3): both addresses are the sender's.
    let say = |host: &Host| {
        let (mac, vip, kind) = (host.mac(), WRITER_VIP.octets(), [0, 1, 8, 0, 6, 4, 0, 1]);
        let frame = [&[0xff; 6][..], &mac, &[8, 6], &kind, &mac, &vip, &[0; 6], &vip].concat();
        host.inside(|| host.frames()?.send(&frame))?;
        wait_for("the claim to be heard", SOON, || {
            let frames = capture.frames()?;
            let mut claims: Vec<_> = frames.iter().filter_map(|frame| claim(frame)).collect();
            claims.retain(|claim| claim.address == WRITER_VIP);
            Ok(claims.last().is_some_and(|last| last.mac == mac).then_some(claims))
        })
    };
    say(db1)?;
    let (vip, owners) = (WRITER_VIP.into(), [db1.mac(), db2.mac()]);
    one_owner(&say(db2)?, vip, &owners)?;
    let claims = say(db1)?;
    let found = one_owner(&claims, vip, &owners).unwrap_err().to_string();
    ensure!(found.contains("was said to be of"), "{found}");
    one_owner(&claims, vip, &[db1.mac(), db2.mac(), db1.mac()])
}

/// Two servers acknowledge at the same time (I2), a reader meets one of them (I4), and a row is lost (I1).
#[test]
fn netns_invariants_see_two_primaries_a_reader_at_one_and_a_lost_row() -> Result<()> {
    let lab = Lab::new()?;
    let client = lab.host("client")?;
    let servers = [lab.primary("db1")?, lab.primary("db2")?];
    let mut acknowledged = Vec::new();
    let mut writers = Vec::new();
    for server in &servers {
        server.psql("create table acknowledged (id bigint primary key, server text)")?;
        writers.push(Writer::start(&client, server.host().address())?);
    }
    // The first goes on after the second has begun.
    for writer in writers.iter().chain(&writers) {
        writer.wait_after(Instant::now(), SOON)?;
    }
    let reader = Reader::start(&client, servers[0].host().address())?;
    reader.wait_for("db1", SOON)?;
    for writer in writers {
        acknowledged.push(writer.stop()?);
    }
    let term = |epoch, node: &str, timeline| {
        let timeline = Timeline::new(timeline);
        let fork = Position { timeline, lsn: Lsn::new(0) };
        let (epoch, node) = (Epoch::new(epoch), node.parse()?);
        Ok(Term { epoch, node, timeline, fork, promoted: true, cause: None, degraded: Vec::new() })
    };
    let terms: Vec<Term> =
        [term(1, "db1", 1), term(2, "db2", 2)].into_iter().collect::<Result<_>>()?;
    one_primary_at_a_time(&acknowledged[0], &terms)?;
    let found = one_primary_at_a_time(&acknowledged[1], &terms).unwrap_err().to_string();
    ensure!(found.contains("acknowledged in the term of db1"), "{found}");
    // As if it had been promoted before.
    acknowledged[1].iter_mut().for_each(|one| one.timeline = Timeline::new(2));
    let both = acknowledged.concat();
    let found = one_primary_at_a_time(&both, &terms).unwrap_err().to_string();
    ensure!(found.contains("two primaries at a time"), "{found}");

    let found = readers_meet_standbys(&reader.visits(), &both).unwrap_err().to_string();
    ensure!(found.contains("sent to the primary"), "{found}");

    let rows = || -> Result<_> {
        let listed = servers[0].psql("select id from acknowledged")?;
        Ok(listed.lines().map(str::parse).collect::<Result<_, _>>()?)
    };
    are_there(&acknowledged[0], &rows()?)?;
    servers[0].psql("delete from acknowledged where id = (select min(id) from acknowledged)")?;
    let found = are_there(&acknowledged[0], &rows()?).unwrap_err().to_string();
    ensure!(found.contains("acknowledged and lost"), "{found}");
    Ok(())
}
