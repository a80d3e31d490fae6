use pgha_machine::Weight;

use super::*;

fn orders() -> Orders {
    let mut orders = Orders::default();
    let (vip, address) = ([10, 0, 0, 100].into(), [10, 0, 0, 2].into());
    let weight = Weight::new(3);
    orders.change(&OrderChange::Weight { vip, port: 5432, address, weight }, "ann", 7);
    orders.change(&OrderChange::AddReader { address, name: None, weight: None }, "bob", 8);
    orders
}

#[test]
fn a_record_is_read_as_it_was_written() {
    assert_eq!(decode(&encode(orders()).unwrap()).unwrap(), orders());
    let text = String::from_utf8(encode(orders()).unwrap()).unwrap();
    // The form is what other controllers and later versions read: it changes with `FORM` alone.
    assert_eq!(
        text,
        "{\"form\":1,\"orders\":{\"servers\":[{\"vip\":\"10.0.0.100\",\"port\":5432,\
         \"address\":\"10.0.0.2\",\"weight\":{\"value\":3,\"by\":\"ann\",\"at\":7},\"drained\":null}],\
         \"readers\":[{\"address\":\"10.0.0.2\",\"name\":null,\"weight\":null,\"by\":\"bob\",\"at\":8}]}}"
    );
}

#[test]
fn a_record_of_another_form_is_left_alone() {
    let said = decode(b"{\"form\":2,\"orders\":\"something else\"}").unwrap_err().to_string();
    assert_eq!(
        said,
        "the record orders of the store has form 2, and this pgha knows form 1; use a newer one"
    );
    assert!(matches!(decode(b"{}"), Err(RecordError::Unreadable(_))));
    assert!(matches!(decode(b"{\"form\":1}"), Err(RecordError::Unreadable(_))));
}

#[test]
fn a_reader_is_one_host() {
    for host in ["10.0.0.1", "223.255.255.254", "fd00::1", "2001:db8::1"] {
        assert!(is_host(host.parse().unwrap()), "{host}");
    }
    let none = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1"];
    for none in none.into_iter().chain(["fe80::1", "ff02::1"]) {
        assert!(!is_host(none.parse().unwrap()), "{none}");
    }
}

#[tokio::test]
async fn trouble_is_told_with_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::new(&folder.path().join("main.store"));
    assert!(book.status().answers);
    book.failed("one".to_owned());
    let since = book.status().stale_since;
    book.failed("other".to_owned());
    let status = book.status();
    assert_eq!((status.answers, status.error.as_deref()), (false, Some("other")));
    assert_eq!(status.stale_since, since);
    book.answers();
    assert_eq!((book.status().answers, book.status().stale_since), (true, None));
}

#[tokio::test]
async fn what_others_write_is_told_and_a_store_that_comes_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    std::fs::write(&path, "damaged").unwrap();
    let mut book = Book::new(&path);
    book.follow();
    let told = book.next().await;
    assert!(matches!(&told, Some(Kept::Failed(error)) if error.contains("is damaged")), "{told:?}");
    std::fs::remove_file(&path).unwrap();
    let first = loop {
        match book.next().await.unwrap() {
            Kept::Read(reading) => break reading,
            other @ (Kept::Failed(_) | Kept::Answers | Kept::Changed(..)) => {
                assert!(!matches!(other, Kept::Changed(..)), "{other:?}");
            }
        }
    };
    assert_eq!((first.mark.revision, &first.value), (0, &None));

    let written = change(&book.store(), &KEY.parse().unwrap(), |_| encode(orders())).await.unwrap();
    loop {
        match book.next().await.unwrap() {
            Kept::Read(reading) => break assert_eq!(reading, written),
            other @ (Kept::Failed(_) | Kept::Answers | Kept::Changed(..)) => {
                assert!(matches!(other, Kept::Answers), "{other:?}");
            }
        }
    }
}
