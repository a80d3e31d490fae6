use std::net::{IpAddr, Ipv4Addr};

use pgha_machine::Mac;

use super::frame::{Said, Word};
use super::{User, other_user};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const ANOTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 101));

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

#[test]
fn who_claims_or_probes_counts_and_who_merely_asks_in_its_name_does_not() {
    let user = |asks| Some(User { mac: mac(2), asks });
    for (address, from, said, expected) in [
        (VIP, 2, Said::Claims, user(false)),
        (VIP, 2, Said::Probes, user(true)),
        (VIP, 2, Said::Uses, None),
        (VIP, 1, Said::Claims, None),
        (ANOTHER, 2, Said::Claims, None),
    ] {
        let word = Word { address, mac: mac(from), said };
        assert_eq!(other_user(word, VIP, mac(1)), expected, "{word:?}");
    }
}
