use super::*;

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

#[test]
fn a_claim_is_by_another_and_of_a_vip() {
    let vips: Vec<IpAddr> = ["10.0.0.100", "2001:db8::100"].map(|vip| vip.parse().unwrap()).into();
    let of_both: BTreeSet<_> = vips.iter().copied().collect();
    for vip in vips {
        let word = Word { address: vip, mac: mac(2), said: Said::Claims };
        let heard = |word| claim(word, mac(1), &of_both);
        assert_eq!(heard(word), Some(Claim { vip, mac: mac(2) }));
        assert_eq!(heard(Word { mac: mac(1), ..word }), None);
        assert_eq!(heard(Word { said: Said::Uses, ..word }), None);
        assert_eq!(heard(Word { said: Said::Probes, ..word }), None);
        assert_eq!(claim(word, mac(1), &BTreeSet::new()), None);
    }
}
