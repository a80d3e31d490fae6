//! `[lease]`.

use pgha_machine::failover::timing::{Field, Profile, Timings, Wanted};

use super::checker::Checker;
use crate::config::error::ConfigError;
use crate::config::raw::RawLease;
use crate::config::schema::PROFILES;

pub(super) fn lease(checks: &mut Checker, raw: RawLease) -> Option<Timings> {
    let profile = checks.choice("lease.profile", raw.profile, PROFILES, profile_named);
    let duration = checks.maybe_duration("lease.duration", raw.duration);
    let renew_every = checks.maybe_duration("lease.renew_every", raw.renew_every);
    let drop_after = checks.maybe_duration("lease.drop_after", raw.drop_after);
    let wanted = Wanted {
        profile: profile?,
        duration: duration?,
        renew_every: renew_every?,
        drop_after: drop_after?,
        watchdog: raw.watchdog,
    };
    let wrong = match wanted.judge() {
        Ok(timings) => return Some(timings),
        Err(wrong) => wrong,
    };
    for source in wrong {
        let at = checks.at(key(source.field()));
        checks.fail(ConfigError::Lease { at, source });
    }
    None
}

const fn key(field: Field) -> &'static str {
    match field {
        Field::Duration => "lease.duration",
        Field::RenewEvery => "lease.renew_every",
        Field::DropAfter => "lease.drop_after",
        Field::Watchdog => "lease.watchdog",
    }
}

fn profile_named(name: &str) -> Option<Profile> {
    Profile::ALL.into_iter().find(|profile| profile.name() == name)
}
