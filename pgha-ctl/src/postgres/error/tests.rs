use rustls::AlertDescription;

use super::*;

fn refused(code: &str) -> PgError {
    PgError::Refused(SqlState::from_code(code), "FATAL: told".to_owned())
}

fn connect(errno: Errno) -> PgError {
    PgError::Connect(io::Error::from_raw_os_error(errno as i32))
}

fn unknown_issuer() -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
}

#[test]
fn only_what_the_server_does_is_evidence_against_it() {
    let undecided = |error: PgError| matches!(error.finding(), Finding::Undecided(_));
    for error in [
        connect(Errno::EMFILE),
        connect(Errno::ENETUNREACH),
        PgError::TlsFile(TlsFileError::NoKey { path: "/k".into() }),
    ] {
        let told = error.to_string();
        assert!(undecided(error), "{told}");
    }
}

#[test]
fn who_refuses_the_login_has_answered() {
    for error in [
        refused("28000"),
        refused("28P01"),
        refused("3D000"),
        PgError::NoTls(SslMode::Require),
        PgError::Handshake(SslMode::VerifyCa, unknown_issuer()),
    ] {
        let told = error.to_string();
        assert_eq!(error.finding(), Finding::LoginRefused(told));
    }
}

#[test]
fn evidence_is_told_apart() {
    let silent = |error: PgError| matches!(error.finding(), Finding::Silent(_));
    assert_eq!(connect(Errno::ECONNREFUSED).finding(), Finding::Refused);
    assert_eq!(refused("57P03").finding(), Finding::NotAccepting);
    assert_eq!(refused("53300").finding(), Finding::Answered("FATAL: told".to_owned()));
    assert!(silent(refused("57P01")));
    assert!(silent(connect(Errno::EHOSTUNREACH)));
    assert!(silent(PgError::Timeout(Duration::from_secs(1))));
    assert!(silent(PgError::Start(io::ErrorKind::UnexpectedEof.into())));
}

#[test]
fn an_error_of_tls_is_found_below_one_of_the_network() {
    let below = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let error = PgError::at_start(below(unknown_issuer()), SslMode::VerifyFull);
    assert_eq!(
        error.to_string(),
        "TLS by sslmode = \"verify-full\": invalid peer certificate: UnknownIssuer; add its \
         authority to sslrootcert"
    );
    let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
    let error = PgError::at_start(below(alert), SslMode::Require);
    assert!(error.to_string().contains("sslcert, sslkey"), "{error}");
}

#[test]
fn a_missing_right_is_told_as_sql() {
    let told = |role: &str| PgError::NotAMonitor { role: role.to_owned() }.to_string();
    assert!(told("pgha").ends_with("on the primary: GRANT pg_monitor TO pgha"), "{}", told("pgha"));
    assert!(told("My \"role\"").ends_with("GRANT pg_monitor TO \"My \"\"role\"\"\""));
}
