use super::*;

#[tokio::test]
async fn a_node_is_faulty_as_long_as_anything_is_wrong_with_it() {
    let (tell, mut told) = mpsc::channel(8);
    let directory = tempfile::tempdir().unwrap();
    let failures = Failures::kept_in(directory.path());
    let faults = Faults::new(failures.clone());
    let telling = tokio::spawn(faults.clone().tell(tell));
    let mut next = async || match told.recv().await {
        Some(Told::Event(Event::Faulty(faulty))) => faulty,
        other => panic!("{other:?}"),
    };
    faults.set(Cause::Disk, Some("full".to_owned()));
    assert!(next().await);
    faults.set(Cause::Link, Some("no carrier".to_owned()));
    faults.set(Cause::Disk, None);
    tokio::task::yield_now().await;
    assert_eq!(faults.reasons(), ["no carrier"]);
    faults.set(Cause::Link, None);
    assert!(!next().await);
    assert!(faults.reasons().is_empty());
    faults.set(Cause::Link, Some("no carrier".to_owned()));
    assert!(next().await);
    telling.abort();
    let counts = failures.list().into_iter().map(|(kind, failure)| (kind, failure.count));
    assert_eq!(counts.collect::<Vec<_>>(), [(FailureKind::Disk, 1), (FailureKind::Link, 2)]);
}
