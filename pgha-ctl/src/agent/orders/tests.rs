use std::sync::Mutex;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// Notes what begins and what is left; a start never ends by itself.
#[derive(Debug, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Left(Arc<Mutex<Vec<String>>>, String);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(format!("left {}", self.1));
    }
}

impl Hands for Notes {
    async fn carry_out(&self, command: Command) -> Outcome {
        let name = format!("{command:?}");
        self.0.lock().unwrap().push(format!("begun {name}"));
        let _left = Left(Arc::clone(&self.0), name);
        if command == Command::Start {
            std::future::pending::<()>().await;
        }
        Outcome::Killed
    }
}

/// What is under way is over before the next command begins, and says nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_the_one_before() {
    let notes = Arc::new(Notes::default());
    let (tell, mut told) = mpsc::channel(4);
    let mut orders = Orders::new(Arc::clone(&notes), tell);
    orders.begin(1, Command::Start);
    while notes.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    orders.begin(2, Command::Kill);
    let ended = timeout(Duration::from_secs(30), told.recv()).await.expect("an end");
    let wanted = Event::Ended { number: 2, outcome: Outcome::Killed };
    assert!(matches!(ended, Some(Told::Event(event)) if event == wanted));
    assert_eq!(*notes.0.lock().unwrap(), ["begun Start", "left Start", "begun Kill", "left Kill"]);
    drop(orders);
    assert!(told.recv().await.is_none(), "nothing is told of the first");
}

/// One that was abandoned before it began never begins.
#[tokio::test]
async fn what_did_not_begin_never_does() {
    let notes = Arc::new(Notes::default());
    let (tell, mut told) = mpsc::channel(4);
    let mut orders = Orders::new(Arc::clone(&notes), tell);
    orders.begin(1, Command::Start);
    orders.begin(2, Command::Kill);
    assert!(matches!(told.recv().await, Some(Told::Event(Event::Ended { number: 2, .. }))));
    assert_eq!(*notes.0.lock().unwrap(), ["begun Kill", "left Kill"]);
}
