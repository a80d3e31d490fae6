//! The lab, handed to a person.
fn main() {}
