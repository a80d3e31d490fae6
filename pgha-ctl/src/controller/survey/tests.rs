use super::*;

/// Which of the first 20 passes begin one.
fn begun(surveys: &mut Surveys, each_pass: bool) -> Vec<u32> {
    (0..20).filter(|_| surveys.is_due(each_pass)).collect()
}

#[test]
fn the_first_pass_and_then_each_sixth_is_a_survey() {
    assert_eq!(begun(&mut Surveys::default(), false), [0, 6, 12, 18]);
}

#[test]
fn with_least_each_pass_is_a_survey() {
    assert_eq!(begun(&mut Surveys::default(), true).len(), 20);
}

#[tokio::test]
async fn one_that_lasts_is_not_joined_by_another() {
    let mut surveys = Surveys::default();
    assert!(surveys.is_due(true));
    surveys.task = Some(tokio::spawn(std::future::pending()));
    assert_eq!(begun(&mut surveys, true), [0; 0]);
    surveys.task = None;
    assert!(surveys.is_due(false), "it is overdue");
}
