use proptest::prelude::*;
use tokio::io::duplex;

use super::*;

/// A message of PostgreSQL's protocol.
fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Knocks at a server that answers this, and returns what it heard after the startup message.
async fn knocked(answer: &[u8]) -> (io::Result<Welcome>, Vec<u8>) {
    let (mut here, mut there) = duplex(64 * 1024);
    let answer = answer.to_owned();
    let server = tokio::spawn(async move {
        let length = there.read_u32().await.unwrap();
        let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
        there.read_exact(&mut startup).await.unwrap();
        assert_eq!(
            startup,
            b"\0\x03\0\0user\0pgha\0database\0postgres\0application_name\0pgha\0\0"
        );
        there.write_all(&answer).await.unwrap();
        there.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = there.read_to_end(&mut rest).await;
        rest
    });
    let welcome = knock(&mut here, "pgha", "postgres").await;
    drop(here);
    (welcome, server.await.unwrap())
}

#[tokio::test]
async fn who_asks_for_a_password_takes_sessions() {
    for request in [3, 5, 10] {
        let (welcome, heard) = knocked(&message_of(b'R', &[0, 0, 0, request, 1, 2, 3, 4])).await;
        assert_eq!(welcome.unwrap(), Welcome::Taken);
        assert!(heard.is_empty(), "no password, no farewell: {heard:?}");
    }
}

#[tokio::test]
async fn a_session_that_needs_no_password_is_ended_in_order() {
    let answer = [
        message_of(b'R', &[0; 4]),
        message_of(b'S', b"TimeZone\0UTC\0"),
        message_of(b'K', &[0; 8]),
        message_of(b'N', b"SNOTICE\0\0"),
        message_of(b'Z', b"I"),
    ];
    let (welcome, heard) = knocked(&answer.concat()).await;
    assert_eq!(welcome.unwrap(), Welcome::Taken);
    assert_eq!(heard, TERMINATE);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let error = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is shutting down\0Fpostmaster.c\0\0";
    let (welcome, _) = knocked(&message_of(b'E', error)).await;
    let told = "FATAL: the database system is shutting down".to_owned();
    assert_eq!(welcome.unwrap(), Welcome::Refused(SqlState::CANNOT_CONNECT_NOW, told));
    // After it has let the client in, too.
    let late = [message_of(b'R', &[0; 4]), message_of(b'E', b"C53300\0Mno slots\0\0")].concat();
    let (welcome, _) = knocked(&late).await;
    let told = "ERROR: no slots".to_owned();
    assert_eq!(welcome.unwrap(), Welcome::Refused(SqlState::TOO_MANY_CONNECTIONS, told));
}

#[tokio::test]
async fn an_answer_may_come_in_pieces() {
    let answer = [
        message_of(b'R', &[0; 4]),
        message_of(b'S', b"TimeZone\0UTC\0"),
        message_of(b'E', b"C57P03\0Mno\0\0"),
    ];
    // As few bytes at a time as the pipe holds.
    let (mut here, mut there) = duplex(3);
    let server = tokio::spawn(async move {
        let length = there.read_u32().await.unwrap();
        there.read_exact(&mut vec![0; usize::try_from(length).unwrap() - 4]).await.unwrap();
        there.write_all(&answer.concat()).await.unwrap();
    });
    let welcome = knock(&mut here, "pgha", "postgres").await;
    let wanted = Welcome::Refused(SqlState::CANNOT_CONNECT_NOW, "ERROR: no".to_owned());
    assert_eq!(welcome.unwrap(), wanted);
    server.await.unwrap();
}

#[tokio::test]
async fn what_is_no_postgresql_is_found_out() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &message_of(b'E', b"Mno code\0\0"),
        &message_of(b'T', &[0; 6]),
        b"R\0\0\0\x03",
        b"R\x7f\xff\xff\xff",
        b"",
        b"R\0\0",
    ] {
        assert!(knocked(answer).await.0.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn tls_is_taken_or_not_and_nothing_else() {
    for (answer, wanted) in [(b"S", Some(true)), (b"N", Some(false)), (b"E", None)] {
        let (mut here, mut there) = duplex(64);
        there.write_all(answer).await.unwrap();
        assert_eq!(ask_for_tls(&mut here).await.ok(), wanted);
        let mut heard = [0; 8];
        there.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, SSL_REQUEST);
    }
}

proptest! {
    #[test]
    fn no_answer_panics(answer: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(async {
            let (mut here, mut there) = duplex(64 * 1024);
            there.write_all(&answer).await.unwrap();
            there.shutdown().await.unwrap();
            knock(&mut here, "pgha", "postgres").await
        });
    }
}
