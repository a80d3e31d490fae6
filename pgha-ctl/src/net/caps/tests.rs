use super::{Capability, effective, has};

const ALL: [Capability; 4] =
    [Capability::NetAdmin, Capability::NetRaw, Capability::Perfmon, Capability::Bpf];

fn held(status: &str) -> Vec<Capability> {
    let effective = effective(status).unwrap();
    ALL.into_iter().filter(|capability| has(effective, *capability)).collect()
}

#[test]
fn each_capability_is_its_bit() {
    for (bits, capability) in [
        ("1000", Capability::NetAdmin),
        ("2000", Capability::NetRaw),
        ("4000000000", Capability::Perfmon),
        ("8000000000", Capability::Bpf),
    ] {
        assert_eq!(held(&format!("CapPrm:\tff\nCapEff:\t{bits:0>16}\n")), [capability]);
    }
}

#[test]
fn sys_admin_stands_for_bpf_and_perfmon() {
    assert_eq!(held("CapEff:\t0000000000200000\n"), [Capability::Perfmon, Capability::Bpf]);
}

#[test]
fn only_capeff_counts() {
    assert_eq!(effective("CapInh:\t1\nCapPrm:\t1\n"), None);
    assert_eq!(held("CapPrm:\t0000ffffffffffff\nCapEff:\t0000000000000000\n"), []);
}
