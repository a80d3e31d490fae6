//! The table of `role.rs`: what each role does in each standing, with the facts that matter.

use super::*;
use crate::failover::fixture::set;
use crate::failover::record::Term;

/// `b` is no member.
fn stranger() -> Record {
    let mut record = cluster(SYNC);
    record.members.remove(&name("b"));
    record.voters.sets = vec![set(&["c"], 1)];
    record
}

/// `c` is the primary of epoch 2, whose timeline begins at that byte.
fn follower(fork: u64, promoted: bool) -> Record {
    let rules = Rules::default();
    let frozen = stopped(&[("b", 110), ("c", fork)]);
    let nominated =
        suspended().nominate(name("c"), name("k1"), Proof::Quorum, &frozen, rules).unwrap();
    let taken = nominated.take(&name("c"), 30, &wal(fork), rules).unwrap();
    if promoted { taken.promoted(&name("c"), at(1, fork)).unwrap() } else { taken }
}

/// What an agent does that began with `found` and reads `record`.
fn meets(found: Found, kept: Kept, record: &Record) -> String {
    Play::begin(kept, found).at(NOW).read_first(record)
}

impl Play {
    fn read_first(&mut self, record: &Record) -> String {
        self.effects();
        self.reads(record)
    }

    /// One whose start did not work, so that nothing is under way.
    pub(super) fn down(kept: Kept) -> Self {
        let mut play = Self::begin(kept, Found::Nothing);
        // What is left of a former process is ended first, whatever it is.
        assert_eq!(play.effects(), "kill; read");
        assert_eq!(play.ends(Outcome::Killed), "start");
        // What did not come up as it should may run all the same.
        assert_eq!(play.ends(Outcome::Failed), "kill");
        assert_eq!(play.ends(Outcome::Killed), "");
        play
    }
}

#[test]
fn what_is_down_is_started_as_a_standby() {
    let down = |kept: Kept, record: &Record| Play::down(kept).at(NOW).reads(record);
    // Unknown: begun without a record, and no member.
    let mut unread = Play::down(kept(1, None));
    assert_eq!(unread.at(NOW).does(Event::Store(Answer::Read(None))), "start");
    assert_eq!(down(kept(1, None), &stranger()), "start; tell");
    // Nominee, Suspended: what it stops for is on disk before it starts.
    for record in [nominee(), suspended()] {
        assert_eq!(down(kept(1, None), &record), "keep epoch 1, freeze 1; tell");
        assert_eq!(down(kept(1, Some(1)), &record), "start; tell");
        // Unless it has promised to freeze nothing.
        assert_eq!(Play::down(kept(1, None)).at(500).reads(&record), "start; tell");
    }
    // Follower.
    assert_eq!(down(kept(1, None), &cluster(SYNC)), "start; tell");
    assert_eq!(down(kept(1, None), &follower(120, true)), "start; tell");
}

#[test]
fn a_holder_that_is_down_starts_as_the_primary_only_with_a_renewal_from_after() {
    let mut play = Play::down(kept(2, None));
    assert_eq!(play.at(NOW).reads(&holder()), "put renewal 1 of b run 20 at 120; tell");
    assert_eq!(play.at(NOW + 10).done(), "arm 3000; restart with 1 of {c}");
    // Of a process that ended while it was the primary.
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    assert_eq!(
        play.at(NOW).reads(&holder()),
        "use 1 of {c}; put renewal 1 of b run 20 at 150; claim in 2; tell"
    );
    assert_eq!(play.at(NOW + 5).done(), "arm 3000");
    assert_eq!(play.at(NOW + 10).does(Event::Gone), "kill");
    assert_eq!(play.at(NOW + 20).ends(Outcome::Killed), "put renewal 2 of b run 20 at 150");
    // Sent in the millisecond of the end, it may be from before.
    assert_eq!(play.at(NOW + 30).done(), "arm 3020; put renewal 3 of b run 20 at 150");
    assert_eq!(play.at(NOW + 40).done(), "arm 3030; restart with 1 of {c}");
    assert_eq!(play.at(NOW + 90).ends(Outcome::Flushed(Lsn::new(160))), "");
    assert_eq!(play.agent.role(), &Role::Restarted { end: Lsn::new(160) });
    // It may be restarted once: the second time, the lease is given back, and it is a standby.
    assert_eq!(play.does(Event::Gone), "kill; tell fault");
    let released = "put released by b at 150, freeze 2 by b: Released";
    assert_eq!(play.ends(Outcome::Killed), released);
    assert_eq!(play.done(), "keep epoch 2, freeze 2; tell");
    assert_eq!(play.ends(Outcome::Done), "start");
}

#[test]
fn a_holder_that_is_down_and_was_not_promoted_starts_as_a_standby() {
    let started = Play::down(kept(2, None)).at(NOW).reads(&taken());
    assert_eq!(started, "start; put renewal 1 of b run 20 at 120; tell");
    // Where its log is on the timeline already, it was.
    let found =
        Found::Standby { open: true, upstream: None, wal: Some(through(&[(1, 120), (2, 125)])) };
    let mut play = Play::begin(kept(2, None), found);
    play.effects();
    assert_eq!(play.does(Event::Gone), "kill");
    assert_eq!(play.ends(Outcome::Killed), "start");
    assert_eq!(play.ends(Outcome::Failed), "kill");
    assert_eq!(play.ends(Outcome::Killed), "");
    assert_eq!(play.at(NOW).reads(&taken()), "put renewal 1 of b run 20 at 125; tell");
    assert_eq!(play.done(), "arm 3000; restart with 1 of {c}");
}

#[test]
fn a_standby() {
    let streams = || standby(Some("a"));
    // Unknown.
    assert_eq!(meets(streams(), kept(1, None), &stranger()), "tell");
    // Holder: it took the epoch before its agent was restarted, or somebody else started it.
    let renews = "put renewal 1 of b run 20 at 120; tell";
    assert_eq!(meets(streams(), kept(2, None), &taken()), format!("stop streaming; {renews}"));
    assert_eq!(meets(streams(), kept(2, None), &holder()), format!("kill; {renews}"));
    // Nominee, Suspended: first on disk, then it stops.
    for record in [nominee(), suspended()] {
        assert_eq!(meets(streams(), kept(1, None), &record), "keep epoch 1, freeze 1; tell");
        assert_eq!(meets(streams(), kept(1, Some(1)), &record), "stop streaming; tell");
        let mut promised = Play::begin(kept(1, None), streams());
        assert_eq!(promised.at(500).read_first(&record), "tell");
        assert_eq!(promised.at(1059).does(Event::Tick), "tell; read");
        assert_eq!(promised.at(1060).does(Event::Tick), "keep epoch 1, freeze 1");
    }
    // Follower: of whom it streams from, of another, of one whose timeline does not exist yet.
    assert_eq!(meets(streams(), kept(1, None), &cluster(SYNC)), "tell");
    assert_eq!(meets(streams(), kept(2, None), &follower(120, true)), "stop streaming; tell");
    assert_eq!(meets(streams(), kept(2, None), &follower(120, false)), "tell");
    assert_eq!(meets(standby(None), kept(1, None), &cluster(SYNC)), "follow a in 1; tell");
    assert_eq!(meets(standby(None), kept(2, None), &follower(120, true)), "follow c in 2; tell");
    assert_eq!(
        meets(standby(None), kept(2, None), &follower(119, true)),
        "keep epoch 2, nothing frozen, rewinding; tell"
    );
    assert_eq!(meets(standby(None), kept(2, None), &follower(120, false)), "tell");
    let unknown = Found::Standby { open: true, upstream: None, wal: None };
    assert_eq!(meets(unknown, kept(1, None), &cluster(SYNC)), "tell");
    // An epoch that is not on disk is written there first.
    assert_eq!(
        meets(standby(None), kept(1, None), &follower(120, true)),
        "keep epoch 2, nothing frozen; tell"
    );
    assert_eq!(
        meets(streams(), kept(1, None), &follower(120, false)),
        "keep epoch 2, nothing frozen; tell"
    );
}

#[test]
fn what_was_kept_for_a_freeze_is_forgotten_where_it_was_over_before_the_node_stopped() {
    let mut play = Play::begin(kept(1, None), standby(Some("a")));
    play.effects();
    assert_eq!(play.at(NOW).reads(&suspended()), "keep epoch 1, freeze 1; tell");
    let thawed = suspended().thaw().unwrap();
    assert_eq!(play.hears_of(&thawed), "");
    assert_eq!(play.ends(Outcome::Done), "keep epoch 1, nothing frozen");
    assert_eq!(play.ends(Outcome::Done), "");
    assert_eq!(play.agent.role(), &Role::Standby { upstream: Some(name("a")) });
}

#[test]
fn a_frozen_standby() {
    let stops = |freeze| (standby(None), kept(1, Some(freeze)));
    let meets =
        |(found, kept): (Found, Kept), record: &Record| super::table::meets(found, kept, record);
    // Unknown.
    assert_eq!(meets(stops(1), &stranger()), "tell frozen 1 at 1:120");
    // Holder: it has promised nothing else, and holds the lease by a renewal of its own.
    let mut play = Play::begin(kept(2, Some(1)), standby(None));
    assert_eq!(
        play.at(NOW).read_first(&taken()),
        "put renewal 1 of b run 20 at 120; tell frozen 1 at 1:120"
    );
    assert_eq!(play.at(NOW + 10).done(), "arm 3000; promote to 2 with 1 of {c}");
    // It was promoted before a crash: PostgreSQL would begin yet another timeline.
    let promoted = Play::begin(kept(2, Some(1)), standby(None)).at(NOW).read_first(&holder());
    assert_eq!(promoted, "kill; put renewal 1 of b run 20 at 120; tell frozen 1 at 1:120");
    // Nominee: it takes the epoch, unless the end of its log is not known or it has promised not to.
    let takes = "put epoch 2, renewal 0 of b run 20 at 120, voters 1 of {c}, floor 1:120, thawed, \
                 no nominee, term 2 of b: 2 from 1:120, to be promoted; tell frozen 1 at 1:120";
    assert_eq!(meets(stops(1), &nominee()), takes);
    let unknown = Found::Standby { open: true, upstream: None, wal: None };
    assert_eq!(meets((unknown, kept(1, Some(1))), &nominee()), "tell frozen 1 at ?");
    let promised = Play::begin(kept(1, Some(1)), standby(None)).at(500).read_first(&nominee());
    assert_eq!(promised, "tell frozen 1 at 1:120");
    let mut faulty = Play::begin(kept(1, Some(1)), standby(None));
    faulty.does(Event::Faulty(true));
    assert_eq!(faulty.at(NOW).reads(&nominee()), "tell frozen 1 at 1:120");
    // Suspended.
    assert_eq!(meets(stops(1), &suspended()), "tell frozen 1 at 1:120");
    // For another freeze: first on disk.
    for record in [nominee(), suspended()] {
        assert_eq!(meets(stops(9), &record), "keep epoch 1, freeze 1; tell frozen 9 at 1:120");
    }
    let mut play = Play::begin(kept(1, Some(9)), standby(None));
    play.at(NOW).read_first(&suspended());
    assert_eq!(play.ends(Outcome::Done), "tell frozen 1 at 1:120");
    // Follower: the freeze is over. That is on disk before it streams.
    let mut play = Play::begin(kept(1, Some(1)), standby(None));
    assert_eq!(
        play.at(NOW).read_first(&cluster(SYNC)),
        "keep epoch 1, nothing frozen; tell frozen 1 at 1:120"
    );
    assert_eq!(play.ends(Outcome::Done), "follow a in 1; tell");
    assert_eq!(play.ends(Outcome::Done), "");
    assert_eq!(play.agent.role(), &Role::Standby { upstream: Some(name("a")) });
}

#[test]
fn a_restarted_primary_admits_clients_when_its_voters_have_what_it_has() {
    let restarted = || primary(NOW + 500, false);
    // Unknown.
    assert_eq!(meets(restarted(), kept(1, None), &stranger()), "tell");
    // Holder.
    let mut play = Play::begin(kept(2, None), restarted());
    assert_eq!(
        play.at(NOW).read_first(&holder()),
        "use 1 of {c}; put renewal 1 of b run 20 at 150; tell"
    );
    assert_eq!(play.ends(Outcome::Flushed(Lsn::new(150))), "");
    let flushed = |node, lsn| Event::Standbys([(name(node), Lsn::new(lsn))].into());
    assert_eq!(play.does(flushed("c", 149)), "");
    assert_eq!(play.does(flushed("a", 150)), "");
    assert_eq!(play.does(flushed("c", 150)), "admit");
    assert_eq!(play.ends(Outcome::Done), "claim in 2");
    // Of each set, where they were changing.
    let changing = holder().announce(&name("b"), set(&["a"], 1)).unwrap();
    let mut play = Play::begin(kept(2, None), restarted());
    play.at(NOW).read_first(&changing);
    assert_eq!(play.ends(Outcome::Flushed(Lsn::new(150))), "");
    assert_eq!(play.does(flushed("c", 150)), "");
    let both = [(name("a"), Lsn::new(150)), (name("c"), Lsn::new(150))];
    assert_eq!(play.does(Event::Standbys(both.into())), "admit");
    // Nominee, Suspended, Follower.
    for record in [nominee(), suspended(), cluster(SYNC), follower(120, true)] {
        let ends = meets(restarted(), kept(record.epoch.get(), None), &record);
        assert_eq!(ends, "kill; tell", "{record:?}");
    }
}

#[test]
fn a_primary() {
    let found = || primary(NOW + 500, true);
    // Unknown.
    assert_eq!(meets(found(), kept(1, None), &stranger()), "tell");
    // Holder: which voters PostgreSQL uses is not known before they are set.
    let mut play = Play::begin(kept(2, None), found());
    assert_eq!(
        play.at(NOW).read_first(&holder()),
        "use 1 of {c}; put renewal 1 of b run 20 at 150; claim in 2; tell"
    );
    assert_eq!(play.ends(Outcome::Flushed(Lsn::new(150))), "");
    // That it was promoted may not be written yet.
    assert_eq!(
        meets(found(), kept(2, None), &taken()),
        "use 1 of {c}; put renewal 1 of b run 20 at 150, \
         term 2 of b: 2 from 1:120, promoted; claim in 2; tell"
    );
    // Nominee, Suspended, Follower.
    for record in [nominee(), suspended(), cluster(SYNC), follower(120, true)] {
        let ends = meets(found(), kept(record.epoch.get(), None), &record);
        assert_eq!(ends, "kill; tell", "{record:?}");
    }
    // It says itself that it cannot go on.
    let mut faulty = Play::begin(kept(2, None), found());
    faulty.at(NOW).read_first(&holder());
    assert_eq!(faulty.does(Event::Faulty(true)), "kill; tell fault");
}

#[test]
fn a_server_whose_gate_is_closed_is_ended_at_once() {
    let found = Found::Primary { open: None, admits: true, wal: wal(150) };
    let mut play = Play::begin(kept(2, None), found);
    assert_eq!(play.effects(), "kill; read");
    assert_eq!(play.ends(Outcome::Killed), "start");
    // A standby too, and one whose gate closes while it runs.
    let found = Found::Standby { open: false, upstream: None, wal: Some(wal(120)) };
    assert_eq!(Play::begin(kept(2, None), found).effects(), "kill; read");
    for found in [standby(Some("a")), primary(500, true)] {
        let mut play = Play::begin(kept(2, None), found);
        play.effects();
        assert_eq!(play.does(Event::GateClosed), "kill");
        assert_eq!(play.ends(Outcome::Killed), "start");
    }
}

#[test]
fn a_standing_is_what_the_record_says() {
    let of = |node, record: &Record| Standing::of(&name(node), Some(record));
    let freeze = 1;
    assert_eq!(Standing::of(&name("b"), None), Standing::Unknown);
    assert_eq!(of("b", &stranger()), Standing::Unknown);
    let running = cluster(SYNC);
    assert_eq!(of("a", &running), Standing::Holder);
    assert_eq!(of("b", &running), Standing::Follower { of: name("a") });
    // The holder goes on while it is but suspected.
    assert_eq!(of("a", &suspended()), Standing::Holder);
    assert_eq!(of("b", &suspended()), Standing::Suspended { freeze });
    assert_eq!(of("a", &nominee()), Standing::Suspended { freeze });
    assert_eq!(of("b", &nominee()), Standing::Nominee { freeze });
    assert_eq!(of("c", &nominee()), Standing::Suspended { freeze });
    let released = running.release(&name("a")).unwrap();
    assert_eq!(of("a", &released), Standing::Suspended { freeze });
    assert_eq!(of("b", &released), Standing::Suspended { freeze });
}

/// A log that ends where the first of two terms was left goes to the timeline of the last.
#[test]
fn a_log_that_missed_a_term_follows_without_a_rewind() {
    let mut record = follower(120, true);
    record.epoch = Epoch::new(3);
    record.terms.push(Term {
        epoch: record.epoch,
        node: name("c"),
        timeline: crate::Timeline::new(3),
        fork: at(2, 140),
        promoted: true,
        degraded: Vec::new(),
        cause: None,
    });
    assert_eq!(meets(standby(None), kept(3, None), &record), "follow c in 3; tell");
    let beyond =
        Found::Standby { open: true, upstream: None, wal: Some(through(&[(1, 120), (2, 141)])) };
    assert_eq!(
        meets(beyond, kept(3, None), &record),
        "keep epoch 3, nothing frozen, rewinding; tell"
    );
}

#[test]
fn what_streams_from_a_primary_that_left_its_history_stops() {
    // `c` was the primary before, was rewound since, and is the primary again.
    let mut record = follower(120, true);
    record.terms[1].fork = at(1, 119);
    let told = meets(standby(Some("c")), kept(2, None), &record);
    assert_eq!(told, "stop streaming; tell");
}

#[test]
fn a_rewind_that_was_interrupted_is_ended_before_anything_is_started() {
    let mut play = Play::begin(kept(2, None), standby(None));
    let told = play.at(NOW).read_first(&follower(119, true));
    assert_eq!(told, "keep epoch 2, nothing frozen, rewinding; tell");
    assert_eq!(play.ends(Outcome::Done), "rewind from c");
    // It ends the server itself.
    assert_eq!(play.does(Event::Gone), "");
    assert_eq!(play.ends(Outcome::Failed), "kill");
    assert_eq!(play.ends(Outcome::Killed), "");
    assert_eq!(play.agent.role(), &Role::Down);
    assert_eq!(play.at(NOW + 200).does(Event::Tick), "rewind from c; tell");
    // A server that runs has come to the end of it.
    assert_eq!(play.ends(Outcome::Stopped(Some(wal(119)))), "keep epoch 2, nothing frozen");
    assert_eq!(play.ends(Outcome::Done), "follow c in 2");
    // After a crash of the agent.
    let rewinding = |frozen| Kept { rewinding: true, ..kept(2, frozen) };
    let down = |frozen| {
        let mut play = Play::begin(rewinding(frozen), Found::Nothing);
        assert_eq!(play.effects(), "kill; read");
        assert_eq!(play.ends(Outcome::Killed), "");
        play.at(NOW);
        play
    };
    assert_eq!(down(None).reads(&follower(119, true)), "rewind from c; tell");
    assert_eq!(down(None).reads(&follower(119, false)), "tell");
    let suspended = frozen(&follower(119, true));
    assert_eq!(down(None).reads(&suspended), "keep epoch 2, freeze 2, rewinding; tell");
    // As a voter it stands still, and has nothing that anybody needs.
    assert_eq!(down(Some(2)).reads(&suspended), "tell frozen 2 at 0:0");
    // As the primary it is of no use.
    let released = "put released by b at 120, freeze 2 by b: Released; tell fault";
    assert_eq!(down(None).reads(&holder()), released);
}

#[test]
fn a_holder_whose_commands_do_not_work_gives_the_lease_back() {
    let mut play = Play::begin(kept(2, Some(1)), standby(None));
    play.at(NOW).read_first(&taken());
    assert_eq!(play.done(), "arm 3000; promote to 2 with 1 of {c}");
    assert_eq!(play.ends(Outcome::Failed), "");
    let promote = "promote to 2 with 1 of {c}; tell frozen 1 at 1:120";
    assert_eq!(play.at(NOW + 200).does(Event::Tick), promote);
    assert_eq!(play.ends(Outcome::Failed), "");
    let told = play.at(NOW + 400).does(Event::Tick);
    assert!(told.starts_with("promote") && told.contains("renewal 2"), "{told}");
    assert_eq!(play.done(), "arm 3400");
    assert_eq!(play.ends(Outcome::Failed), "tell fault frozen 1 at 1:120");
    assert_eq!(play.at(NOW + 600).does(Event::Tick), "kill; tell fault frozen 1 at 1:120");
    let released = "put released by b at 120, freeze 2 by b: Released; tell fault";
    assert_eq!(play.ends(Outcome::Killed), released);
}

#[test]
fn after_a_crash_sync_waits_for_nobody_when_nobody_comes_back() {
    let mut play = Play::begin(kept(2, None), primary(NOW + 5000, false));
    play.at(NOW).read_first(&holder());
    play.ends(Outcome::Flushed(Lsn::new(150)));
    play.does(Event::Standbys(std::collections::BTreeMap::new()));
    play.done();
    // Standbys need longer than a moment to come back.
    for now in 1..20 {
        let told = play.at(NOW + now * 100).does(Event::Tick);
        assert!(!told.contains("voters"), "{now}: {told}");
        if told.contains("put") {
            play.done();
        }
        if told.contains("read") {
            play.reads(&holder());
        }
    }
    let told = play.at(NOW + 2000).does(Event::Tick);
    assert!(told.contains("voters 1 of {c} then 0 of {}, degraded from 150"), "{told}");
    assert!(play.done().contains("use 0 of {}"));
    let told = play.ends(Outcome::Flushed(Lsn::new(150)));
    assert!(told.contains("voters 0 of {}, floor 2:150"), "{told}");
    assert!(play.done().contains("admit"));
}

#[test]
fn a_server_that_somebody_else_promoted_is_ended() {
    for found in [standby(None), standby(Some("a"))] {
        let mut play = Play::begin(kept(1, None), found);
        play.effects();
        assert_eq!(play.does(Event::OutOfRecovery), "kill");
    }
    // One that this agent promotes is what it is to be.
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    assert_eq!(play.does(Event::OutOfRecovery), "");
}

#[test]
fn who_may_stream_from_anybody_stops_before_anything_else() {
    // The freeze was over before the receiver had ended for certain.
    let mut play = Play::begin(kept(1, Some(1)), standby(Some("a")));
    assert_eq!(play.at(NOW).read_first(&suspended()), "stop streaming; tell");
    assert_eq!(play.ends(Outcome::Failed), "");
    assert_eq!(play.hears_of(&suspended().thaw().unwrap()), "");
    assert_eq!(play.at(NOW + 200).does(Event::Tick), "stop streaming; tell");
    assert_eq!(
        play.ends(Outcome::Stopped(Some(wal(120)))),
        "keep epoch 1, nothing frozen; tell frozen 1 at 1:120"
    );
    assert_eq!(play.ends(Outcome::Done), "follow a in 1; tell");
    assert_eq!(play.ends(Outcome::Failed), "");
    assert!(play.at(NOW + 400).does(Event::Tick).starts_with("stop streaming"));
    // One that may have caught up, or goes on to, is not frozen.
    let mut play = Play::begin(kept(1, Some(1)), standby(None));
    play.at(NOW).read_first(&suspended());
    let at = FrozenAt { freeze: 1, wal: Some(wal(130)) };
    play.hears("c", Message::Report(Report { frozen: Some(at), ..Report::default() }));
    let catch_up = Message::CatchUp { epoch: Epoch::new(1), freeze: 1, from: name("c") };
    assert_eq!(play.hears("k1", catch_up), "catch up from c to 1:130");
    assert_eq!(play.ends(Outcome::Failed), "tell");
    assert_eq!(play.at(NOW + 200).does(Event::Tick), "stop streaming; tell");
}

#[test]
fn a_server_that_ends_while_it_starts_is_started_anew() {
    let mut play = Play::begin(kept(1, None), Found::Nothing);
    play.effects();
    assert_eq!(play.ends(Outcome::Killed), "start");
    assert_eq!(play.does(Event::Gone), "kill");
    assert_eq!(play.ends(Outcome::Killed), "start");
}

#[test]
fn a_voter_that_left_stops_for_a_freeze_until_nobody_can_wait_for_it() {
    let mut left = cluster(SYNC);
    left.members.remove(&name("b"));
    assert_eq!(
        meets(standby(Some("a")), kept(1, None), &frozen(&left)),
        "keep epoch 1, freeze 1; tell"
    );
    let settled = left.announce(&name("a"), set(&["c"], 1)).unwrap();
    let settled =
        settled.settle(&name("a"), at(1, 140), &std::collections::BTreeSet::new()).unwrap();
    assert_eq!(meets(standby(Some("a")), kept(1, None), &frozen(&settled)), "tell");
}
