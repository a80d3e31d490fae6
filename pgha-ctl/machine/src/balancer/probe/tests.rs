use super::*;

const FALL: u8 = 3;

fn after(findings: &[(ProbeFinding, bool)]) -> Passage {
    findings.iter().fold(Passage::default(), |passage, (finding, answers)| {
        passage.after(finding, FALL, *answers, true)
    })
}

fn no() -> ProbeFinding {
    ProbeFinding::NotAccepting("57P03".to_owned())
}

fn failing() -> ProbeFinding {
    ProbeFinding::Failing("53300".to_owned())
}

fn undecided() -> ProbeFinding {
    ProbeFinding::Undecided("no raw socket".to_owned())
}

/// The whole table: every state meets every finding while the server itself answers.
#[test]
fn every_state_meets_every_finding() {
    use ProbeFinding::{Open, Refused, Silent};
    let state =
        |state, silences| Passage { state, silences, failures: silences, ..Passage::default() };
    for was in [
        State::Unchecked,
        State::Proven,
        State::Silent,
        State::Refused,
        State::NotAccepting,
        State::Failing,
        State::Undecided,
    ] {
        let decided = if was == State::Unchecked { State::Undecided } else { was };
        for (finding, silences, becomes) in [
            (Open, 0, State::Proven),
            (Refused, 0, State::Refused),
            (no(), 0, State::NotAccepting),
            (undecided(), 0, decided),
            (Silent, 0, was),
            (Silent, 1, was),
            (Silent, 2, State::Silent),
            (failing(), 1, was),
            (failing(), 2, State::Failing),
        ] {
            let passage = state(was, silences).after(&finding, FALL, true, true);
            assert_eq!(passage.state, becomes, "{was:?} {finding:?} {silences}");
        }
    }
}

#[test]
fn silences_count_in_a_row_and_only_while_the_server_itself_answers() {
    use ProbeFinding::{Open, Silent};
    let proven = [(Open, true)];
    let with = |more: &[(ProbeFinding, bool)]| after(&[&proven, more].concat()).withheld();
    let silent = (Silent, true);
    assert_eq!(with(&[silent.clone(), silent.clone()]), None);
    assert_eq!(with(&[silent.clone(), silent.clone(), silent.clone()]), Some(Withheld::VipSilent));
    let broken = [silent.clone(), silent.clone(), (Open, true), silent.clone(), silent.clone()];
    assert_eq!(with(&broken), None);
    let host_gone = vec![(Silent, false); 20];
    assert_eq!(with(&host_gone), None);
    assert_eq!(with(&[&host_gone[..], &[silent.clone(), silent]].concat()), None);
}

/// Silence of every path takes nobody out who had clients, and lets nobody in who had none.
#[test]
fn a_silence_that_no_other_path_breaks_changes_nothing_but_what_is_told() {
    let alone = |passage: Passage| {
        (0..20).fold(passage, |passage, _| passage.after(&ProbeFinding::Silent, FALL, true, false))
    };
    let proven = alone(Passage::proven());
    assert_eq!((proven.withheld(), proven.standing()), (None, VipStanding::Proven));
    assert!(proven.is_unheard(FALL) && proven.error().is_some());
    assert_eq!(alone(after(&[(undecided(), true)])).withheld(), None);
    assert_eq!(alone(Passage::default()).withheld(), Some(Withheld::VipSilent));
    let open = proven.after(&ProbeFinding::Open, FALL, true, false);
    assert!(!open.is_unheard(FALL) && open.error().is_none());
    // Where others answer again, it is this one.
    let silent =
        (0..FALL).fold(proven, |passage, _| passage.after(&ProbeFinding::Silent, FALL, true, true));
    assert_eq!(silent.withheld(), Some(Withheld::VipSilent));
}

#[test]
fn a_probe_that_cannot_be_carried_out_withholds_nobody_who_was_not_withheld() {
    use ProbeFinding::{Open, Refused, Silent};
    let silent = || (Silent, true);
    for (findings, withheld) in [
        (vec![], Some(Withheld::VipUnproven)),
        (vec![(undecided(), true)], None),
        (vec![(Open, true), (undecided(), true)], None),
        (vec![(Refused, true), (undecided(), true)], Some(Withheld::VipRefused)),
        (vec![(undecided(), true), silent(), silent()], None),
        (vec![(undecided(), true), silent(), silent(), silent()], Some(Withheld::VipSilent)),
        (vec![(no(), true)], Some(Withheld::VipNotAccepting)),
        (vec![(no(), true), (Open, true)], None),
    ] {
        assert_eq!(after(&findings).withheld(), withheld, "{findings:?}");
    }
    let passage = after(&[(Open, true), (undecided(), true)]);
    assert_eq!((passage.standing(), passage.error()), (VipStanding::Proven, Some("no raw socket")));
    assert_eq!(after(&[(undecided(), true)]).standing(), VipStanding::Undecided);
    assert_eq!(after(&[(undecided(), true), (Open, true)]).error(), None);
}
