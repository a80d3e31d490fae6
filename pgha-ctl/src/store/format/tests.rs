use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn content() -> impl Strategy<Value = Content> {
    let records = btree_map("[a-z0-9_-]{1,12}", vec(any::<u8>(), 0..40), 0..6);
    (any::<[u8; 16]>(), records).prop_map(|(incarnation, records)| {
        let mut content = Content::empty(Incarnation::from_bytes(incarnation));
        for (key, value) in records {
            content = content.with(&key.parse().unwrap(), value);
        }
        content
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(content in content()) {
        prop_assert_eq!(Content::decode(&content.encode()), Ok(content));
    }

    #[test]
    fn whatever_is_cut_is_refused(content in content()) {
        let bytes = content.encode();
        for end in 0..bytes.len() {
            let error = Content::decode(&bytes[..end]).unwrap_err();
            let expected = if end < HEAD { FormatError::Magic } else { FormatError::Checksum };
            prop_assert_eq!(error, expected);
        }
    }

    #[test]
    fn no_bit_falls_over_unseen(content in content(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = content.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Content::decode(&bytes).is_err());
    }

    #[test]
    fn no_bytes_break_the_reader(body in vec(any::<u8>(), 0..200)) {
        // With a checksum that is right, so that the records are looked at.
        let checksum = digest(&SHA256, &body);
        let bytes = [MAGIC, &VERSION.to_be_bytes()[..], checksum.as_ref(), &body].concat();
        if let Ok(content) = Content::decode(&bytes) {
            prop_assert_eq!(content.encode(), bytes);
        }
    }
}

#[test]
fn a_newer_file_is_refused_as_such() {
    let mut bytes = Content::empty(Incarnation::from_bytes([0; 16])).encode();
    bytes[11] = 2;
    assert_eq!(Content::decode(&bytes), Err(FormatError::Version(2)));
}

#[test]
fn revisions_only_grow() {
    let (a, b): (Key, Key) = ("a".parse().unwrap(), "b".parse().unwrap());
    let empty = Content::empty(Incarnation::from_bytes([1; 16]));
    let content = empty.with(&a, vec![1]).with(&b, vec![2]).with(&a, vec![1]);
    let revisions = [&a, &b].map(|key| content.mark(key).revision);
    assert_eq!((revisions, content.revision), ([3, 2], 3));
    assert_eq!(empty.reading(&a).value, None);
    assert_eq!(content.reading(&b).value, Some(vec![2]));
}
