use pgha_machine::failover::record::Progress;
use pgha_machine::failover::timing::Timings;
use pgha_machine::{Epoch, Mark};

use super::*;

fn kept() -> Kept {
    Kept {
        seen: Some(Mark { incarnation: u128::MAX - 5, revision: u64::MAX }),
        progress: Progress { epoch: Epoch::new(7), ..Progress::default() },
        frozen: Some(3),
        rewinding: true,
        lease: Some(Timings::default()),
    }
}

/// What was kept is there again, whole; the next agent waits for the one before to end.
#[tokio::test]
async fn what_was_kept_outlives_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state").join("main");
    let (drawer, found) = Drawer::open(&directory).unwrap();
    assert_eq!(found, Kept::default());
    drawer.keep(&kept()).await.unwrap();
    assert!(matches!(Drawer::open(&directory), Err(KeptError::InUse { .. })));
    drop(drawer);
    let (drawer, found) = Drawer::open(&directory).unwrap();
    assert_eq!(found, kept());
    drawer.keep(&Kept::default()).await.unwrap();
    drop(drawer);
    assert_eq!(Drawer::open(&directory).unwrap().1, Kept::default());
}

/// Whatever one byte becomes, it is noticed, and never taken for a node that has promised nothing.
#[test]
fn no_damage_goes_unnoticed() {
    let good = encode(&kept());
    let file = Path::new("kept");
    assert_eq!(decode(file, &good).unwrap(), kept());
    for place in 0..good.len() {
        for wrong in [good[place] ^ 1, good[place] ^ 0x80] {
            let mut bytes = good.clone();
            bytes[place] = wrong;
            assert!(decode(file, &bytes).is_err(), "byte {place} became {wrong}");
        }
        assert!(decode(file, &good[..place]).is_err(), "cut at {place}");
    }
}

/// What is being written when its command is abandoned is on the disk before what is written next.
#[tokio::test]
async fn an_abandoned_write_comes_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (drawer, _) = Drawer::open(folder.path()).unwrap();
    let drawer = Arc::new(drawer);
    for round in 0..50 {
        let older = Kept { frozen: Some(round), ..kept() };
        let begun = {
            let drawer = Arc::clone(&drawer);
            tokio::spawn(async move { drawer.keep(&older).await })
        };
        tokio::task::yield_now().await;
        begun.abort();
        let _ = begun.await;
        let newer = Kept { frozen: None, ..kept() };
        drawer.keep(&newer).await.unwrap();
        let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
        assert_eq!(decode(Path::new(FILE), &bytes).unwrap(), newer, "round {round}");
    }
}
