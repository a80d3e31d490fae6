//! pgha: the controller and the operator's verbs. The binary is a thin `main` over this library, so
//! that the tests exercise what is shipped.

pub mod bpf;
