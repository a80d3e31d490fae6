use super::*;

#[test]
fn a_startup_message_has_its_length_the_protocol_and_ends_by_a_zero() {
    let message = message("me", "db");
    let rest = b"user\0me\0database\0db\0application_name\0pgha probe\0\0";
    assert_eq!(message[..4], u32::try_from(message.len()).unwrap().to_be_bytes());
    assert_eq!(message[4..8], [0, 3, 0, 0]);
    assert_eq!(&message[8..], rest);
}

fn error(fields: &str) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 4).unwrap();
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

#[test]
fn what_is_answered_tells_whether_sessions_are_taken() {
    let not = |said: &str| ProbeFinding::NotAccepting(said.to_owned());
    let failing = |said: &str| ProbeFinding::Failing(said.to_owned());
    let starting = "SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0Fpostmaster.c\0\0";
    let full = "SFATAL\0C53300\0Msorry, too many clients already\0\0";
    let hba = "SFATAL\0C28000\0Mno pg_hba.conf entry\0\0";
    let cases = [
        (b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec(), ProbeFinding::Open),
        (b"R".to_vec(), ProbeFinding::Open),
        (b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0".to_vec(), ProbeFinding::Open),
        (error(starting), not("the database system is starting up (SQLSTATE 57P03)")),
        (error(full), failing("sorry, too many clients already (SQLSTATE 53300)")),
        // It is about the probe's own login: others may get in.
        (error(hba), ProbeFinding::Open),
        (error(""), ProbeFinding::Open),
        (b"HTTP/1.1 400".to_vec(), failing("what answers on the VIP is no PostgreSQL")),
        (b"E\0".to_vec(), failing("what answers on the VIP is no PostgreSQL")),
        (Vec::new(), failing("what answers on the VIP is no PostgreSQL")),
    ];
    for (bytes, finding) in cases {
        assert_eq!(answer(&bytes), finding, "{bytes:?}");
    }
}
