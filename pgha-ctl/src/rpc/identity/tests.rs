use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;

fn certificate(names: &[(DnType, &str)], alternatives: &[&str]) -> CertificateDer<'static> {
    let alternatives: Vec<String> = alternatives.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(alternatives).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, name) in names {
        params.distinguished_name.push(kind.clone(), *name);
    }
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

#[test]
fn a_certificate_says_who_holds_it() {
    let (unit, name) = (DnType::OrganizationalUnitName, DnType::CommonName);
    let holder = Holder::of(&certificate(
        &[(unit.clone(), "operator"), (name.clone(), "ann")],
        &["10.0.0.1", "fd00::1", "lb1.example"],
    ))
    .unwrap();
    let year = |years: u64| UNIX_EPOCH + Duration::from_secs(years);
    let expected = Holder {
        name: "ann".to_owned(),
        role: Some(Role::Operator),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        names: vec!["lb1.example".to_owned()],
        from: year(1_767_225_600),
        until: year(1_798_761_600),
    };
    assert_eq!(holder, expected);

    for (units, role) in [
        (vec!["node"], Some(Role::Node)),
        (vec!["Operator"], None),
        (vec!["operators"], None),
        (vec![], None),
    ] {
        let mut names = vec![(name.clone(), "db1")];
        names.extend(units.iter().map(|unit_name| (unit.clone(), *unit_name)));
        assert_eq!(Holder::of(&certificate(&names, &[])).unwrap().role, role, "{units:?}");
    }
}

#[test]
fn a_certificate_of_nobody_is_refused() {
    let nameless = certificate(&[(DnType::OrganizationalUnitName, "operator")], &["10.0.0.1"]);
    assert!(matches!(Holder::of(&nameless), Err(HolderError::Nameless)));
    let cut = CertificateDer::from(nameless[..nameless.len() - 1].to_vec());
    assert!(matches!(Holder::of(&cut), Err(HolderError::Unreadable(_))));
}
