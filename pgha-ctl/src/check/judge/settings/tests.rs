use super::covers;

#[test]
fn what_is_listened_on_covers_a_vip_of_its_family() {
    let [v4, v6] = ["10.0.0.100", "fd00::100"].map(|vip| vip.parse().unwrap());
    for (listed, covers_v4, covers_v6) in [
        ("*", true, true),
        ("0.0.0.0", true, false),
        ("::", false, true),
        ("localhost,10.0.0.100", true, false),
        ("localhost, \"fd00:0::100\"", false, true),
        ("localhost", false, false),
        ("10.0.0.10", false, false),
        ("", false, false),
    ] {
        assert_eq!((covers(listed, v4), covers(listed, v6)), (covers_v4, covers_v6), "{listed}");
    }
}
