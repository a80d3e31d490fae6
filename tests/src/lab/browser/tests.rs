use super::*;

/// The examples of RFC 4648, section 10.
#[test]
fn base64_is_decoded() {
    for (text, bytes) in
        [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
    {
        assert_eq!(decoded(text).unwrap(), bytes.as_bytes(), "{text}");
    }
    assert_eq!(decoded("+/8A").unwrap(), [0xfb, 0xff, 0x00]);
    assert!(decoded("Zm 9v").is_err());
}
