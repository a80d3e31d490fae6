use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SignatureAlgorithm,
};

use x509_parser::asn1_rs::FromDer as _;

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
        for verified in [false, true] {
            let bound = bound_to(&certificate, verified);
            assert_eq!(bound.as_ref(), Some(&wanted), "{algorithm:?}");
        }
    }
}

/// RFC 5929 has no end point for one that is signed without a hash of its own.
#[test]
fn only_who_verifies_a_certificate_without_an_end_point_goes_unbound() {
    for certificate in [certificate(&PKCS_ED25519), b"no certificate".to_vec()] {
        assert_eq!(bound_to(&certificate, true), None);
        let wanted = digest(&SHA256, &certificate).as_ref().to_vec();
        assert_eq!(bound_to(&certificate, false), Some(wanted));
    }
}

/// RSASSA-PSS names its hash as a parameter, and a server goes by that.
#[test]
fn a_hash_that_is_a_parameter_counts() {
    // As `openssl req -x509 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest` writes it.
    for (last, salt, hash) in [(1, 32, &SHA256), (2, 48, &SHA384), (3, 64, &SHA512)] {
        let of_hash = [0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last, 5, 0];
        let identifier = [
            &[0x30, 65, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 10, 0x30, 52][..],
            &[0xa0, 15],
            &of_hash,
            &[0xa1, 28, 0x30, 26, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 8],
            &of_hash,
            &[0xa2, 3, 2, 1, salt],
        ];
        let identifier = identifier.concat();
        let (rest, parsed) = AlgorithmIdentifier::from_der(&identifier).unwrap();
        assert!(rest.is_empty());
        assert_eq!(hash_of(&parsed), Some(hash));
    }
}
