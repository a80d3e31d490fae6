use proptest::prelude::*;

use super::{finish, updated, word};

#[test]
fn the_example_of_rfc_1624_comes_out() {
    // Section 4: old checksum 0xDD2F, a word changes from 0x5555 to 0x3285, new checksum 0x0000, or as here
    // its other way to be written.
    assert_eq!(updated([0xdd, 0x2f], [0x55, 0x55], [0x32, 0x85]), [0xff, 0xff]);
}

proptest! {
    #[test]
    fn an_updated_checksum_checks(words: [[u8; 2]; 8], after: [u8; 2]) {
        let sum = |words: &[[u8; 2]]| -> u32 { words.iter().copied().map(word).sum() };
        let mut changed = words;
        changed[3] = after;
        let checksum = updated(finish(sum(&words)), words[3], after);
        prop_assert_eq!(finish(sum(&changed) + word(checksum)), [0, 0]);
    }
}
