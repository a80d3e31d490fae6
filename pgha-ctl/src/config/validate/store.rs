//! `[store]`.

use std::path::PathBuf;
use std::time::Duration;

use pgha_machine::NodeName;
use pgha_machine::failover::timing::Timings;

use super::checker::{Checker, Unique};
use super::{maybe_path, pair, some};
use crate::config::error::ConfigError;
use crate::config::etcd::{Endpoint, Etcd, EtcdLogin, EtcdTls, StorePlace};
use crate::config::raw::RawStore;
use crate::config::schema::STORES;

pub(super) fn store(
    checks: &mut Checker,
    raw: RawStore,
    cluster: Option<&NodeName>,
    lease: Option<Timings>,
) -> Option<StorePlace> {
    let kind = checks.one_of_default("store.kind", raw.kind.clone(), STORES)?;
    let ending = if kind == "etcd" { "seen" } else { "store" };
    let path = raw.path.clone();
    let path = path.or_else(|| cluster.map(|name| format!("/var/lib/pgha/{name}.{ending}")));
    let path = path.and_then(|path| checks.absolute("store.path", path));
    if kind == "etcd" {
        return etcd(checks, raw, path, lease).map(StorePlace::Etcd);
    }
    let fits = only_local(checks, &raw);
    path.filter(|_| fits).map(StorePlace::Local)
}

/// Whether nothing is given that a local store has no use for.
fn only_local(checks: &mut Checker, raw: &RawStore) -> bool {
    let given = [
        ("store.endpoints", raw.endpoints.is_some()),
        ("store.ca", raw.ca.is_some()),
        ("store.cert", raw.cert.is_some()),
        ("store.key", raw.key.is_some()),
        ("store.user", raw.user.is_some()),
        ("store.password_file", raw.password_file.is_some()),
        ("store.timeout", raw.timeout.is_some()),
    ];
    let foreign: Vec<_> = given.iter().filter(|(_, given)| *given).collect();
    for (key, _) in &foreign {
        let at = checks.at(key);
        checks.fail(ConfigError::NotWithThisStore { at });
    }
    foreign.is_empty()
}

fn etcd(
    checks: &mut Checker,
    raw: RawStore,
    seen: Option<PathBuf>,
    lease: Option<Timings>,
) -> Option<Etcd> {
    let endpoints = checks.required("store.endpoints", raw.endpoints);
    let endpoints =
        endpoints.and_then(|endpoints| some(checks, "store.endpoints", endpoints, endpoint));
    let endpoints = endpoints.filter(|endpoints| one_scheme(checks, endpoints));
    let secure = endpoints.as_ref().map(|endpoints| endpoints.iter().any(Endpoint::tls));
    let ca = maybe_path(checks, "store.ca", raw.ca);
    let certificate = maybe_path(checks, "store.cert", raw.cert);
    let key = maybe_path(checks, "store.key", raw.key);
    let login = login(checks, raw.user, raw.password_file);
    let timeout = timeout(checks, raw.timeout, lease);
    let shown = pair(checks, ("store.cert", certificate?), ("store.key", key?))?;
    let tls = tls(checks, secure?, ca?, shown);
    Some(Etcd { endpoints: endpoints?, tls: tls?, login: login?, timeout: timeout?, seen: seen? })
}

fn endpoint(checks: &mut Checker, key: &str, value: String) -> Option<Endpoint> {
    match value.parse::<Endpoint>() {
        Ok(endpoint) => {
            checks.unique(Unique::Member, key, endpoint.authority()).then_some(endpoint)
        }
        Err(source) => {
            let at = checks.at(key);
            checks.fail(ConfigError::Endpoint { at, value, source });
            None
        }
    }
}

fn one_scheme(checks: &mut Checker, endpoints: &[Endpoint]) -> bool {
    let Some(first) = endpoints.first() else { return true };
    let Some(index) = endpoints.iter().position(|other| other.tls() != first.tls()) else {
        return true;
    };
    let at = checks.at(&format!("store.endpoints[{index}]"));
    let (value, first) = (endpoints[index].clone(), first.clone());
    checks.fail(ConfigError::MixedSchemes { at, value, first });
    false
}

fn tls(
    checks: &mut Checker,
    secure: bool,
    ca: Option<PathBuf>,
    shown: Option<(PathBuf, PathBuf)>,
) -> Option<Option<EtcdTls>> {
    match (secure, ca) {
        (true, Some(ca)) => return Some(Some(EtcdTls { ca, shown })),
        (false, None) if shown.is_none() => return Some(None),
        (true, None) => {
            // It is not missing where it has the wrong type.
            if !checks.refused("store.ca") {
                let at = checks.at("store.ca");
                checks.fail(ConfigError::NoStoreAuthority { at });
            }
        }
        (false, ca) => {
            let at = checks.at(if ca.is_some() { "store.ca" } else { "store.cert" });
            checks.fail(ConfigError::NeedsTls { at });
        }
    }
    None
}

fn login(
    checks: &mut Checker,
    user: Option<String>,
    file: Option<String>,
) -> Option<Option<EtcdLogin>> {
    let half = match (&user, &file) {
        (None, None) => return Some(None),
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some(("store.password_file", "user")),
        (None, Some(_)) => Some(("store.user", "password_file")),
    };
    if let Some((missing, given)) = half {
        let at = checks.at(missing);
        checks.fail(ConfigError::HalfLogin { at, given });
    }
    let user = user.and_then(|user| checks.name("store.user", Some(user)));
    let password_file = maybe_path(checks, "store.password_file", file)?;
    Some(Some(EtcdLogin { user: user?.to_string(), password_file: password_file? }))
}

/// A renewal that gets no answer has to leave time for another one.
fn timeout(
    checks: &mut Checker,
    value: Option<String>,
    lease: Option<Timings>,
) -> Option<Duration> {
    let given = checks.maybe_duration("store.timeout", value);
    let (value, lease) = (given?, lease?);
    let most = lease.longest_request();
    match value {
        Some(value) if value > most => {
            let at = checks.at("store.timeout");
            checks.fail(ConfigError::SlowStore { at, value, most });
            None
        }
        Some(value) => Some(value),
        None => Some((lease.duration() / 4).min(most)),
    }
}
