use std::path::Path;

use pgha_machine::Weight;

use super::*;

fn book(path: &Path) -> Book {
    Book::new(&StorePlace::Local(path.to_owned()), &"main".parse().unwrap())
}

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

#[tokio::test]
async fn trouble_is_told_with_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = book(&folder.path().join("main.store"));
    assert!(book.status().answers);
    assert!(book.failed("one".to_owned()).is_some());
    assert_eq!(book.failed("one".to_owned()), None, "it is told once");
    let since = book.status().stale_since;
    assert_eq!(book.failed("other".to_owned()), None, "nor is it with another text");
    let status = book.status();
    assert_eq!((status.answers, status.error.as_deref()), (false, Some("other")));
    assert_eq!(status.stale_since, since);
    assert!(book.answers().is_some());
    assert_eq!(book.answers(), None);
    assert_eq!((book.status().answers, book.status().stale_since), (true, None));
}

#[tokio::test]
async fn what_others_write_is_told_and_a_store_that_comes_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    std::fs::write(&path, "damaged").unwrap();
    let mut book = book(&path);
    book.follow();
    let told = book.next().await;
    assert!(matches!(&told, Some(Kept::Failed(error)) if error.contains("is damaged")), "{told:?}");
    std::fs::remove_file(&path).unwrap();
    let first = loop {
        match book.next().await.unwrap() {
            Kept::Read(reading) => break reading,
            other @ (Kept::Failed(_) | Kept::Answers { .. } | Kept::Changed(..)) => {
                assert!(!matches!(other, Kept::Changed(..)), "{other:?}");
            }
        }
    };
    assert_eq!((first.mark.revision, &first.value), (0, &None));

    let written = change(&book.store(), &KEY.parse().unwrap(), |_| encode(orders())).await.unwrap();
    loop {
        match book.next().await.unwrap() {
            Kept::Read(reading) => break assert_eq!(reading, written),
            other @ (Kept::Failed(_) | Kept::Answers { .. } | Kept::Changed(..)) => {
                assert!(matches!(other, Kept::Answers { .. }), "{other:?}");
            }
        }
    }
}

#[test]
fn who_ordered_hears_whether_the_change_may_come_yet() {
    let io = |text| LocalError::Io { path: "/s".into(), source: std::io::Error::other(text) };
    let failed = NotKept::from(ChangeError::Store(CasError::Failed(io("full").into())));
    assert!(
        failed.to_string().starts_with("not kept, so not in force: store /s: full"),
        "{failed}"
    );
    assert!(failed.trouble().is_some());
    let unknown = NotKept::from(ChangeError::Store(CasError::Unknown(io("gone").into())));
    let said = unknown.to_string();
    assert!(said.starts_with("perhaps not kept; it may come into force yet, see `pgha status`: "));
    assert!(unknown.trouble().is_some_and(|why| why.contains("gone")), "{said}");
    // A store that refuses one change is no store that cannot be used.
    let long = CasError::Failed(LocalError::TooLong(9).into());
    for refused in [ChangeError::Crowded, ChangeError::Store(long)] {
        let refused = NotKept::from(refused);
        assert!(matches!(refused, NotKept::Refused(_)) && refused.trouble().is_none());
    }
}

#[tokio::test]
async fn a_change_that_the_disk_refuses_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.store");
    let mut book = book(&path);
    book.store.get(&book.key).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    // A directory of that name can be neither replaced nor removed: nor would root get past it.
    std::fs::create_dir_all(path.with_added_extension("new").join("x")).unwrap();
    let wanted = Wanted { changes: Vec::new(), by: String::new(), asked: Asked::Import };
    book.change(orders(), wanted);
    let told = book.next().await.unwrap();
    assert!(matches!(&told, Kept::Changed(Err(NotKept::Failed(_)), _)), "{told:?}");
}
