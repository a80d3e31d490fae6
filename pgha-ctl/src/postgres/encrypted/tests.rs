use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SignatureAlgorithm,
};

use super::*;

fn certificate(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new(["db1".to_owned()]).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn a_password_is_bound_to_the_hash_that_signed_the_certificate() {
    for (algorithm, hash) in
        [(&PKCS_ECDSA_P256_SHA256, &SHA256), (&PKCS_ECDSA_P384_SHA384, &SHA384)]
    {
        let certificate = certificate(algorithm);
        let wanted = digest(hash, &certificate).as_ref().to_vec();
        assert_eq!(end_point(&certificate), Some(wanted), "{algorithm:?}");
    }
    // Signed without a hash of its own: RFC 5929 has no binding for that.
    assert_eq!(end_point(&certificate(&PKCS_ED25519)), None);
    assert_eq!(end_point(b"no certificate"), None);
}
