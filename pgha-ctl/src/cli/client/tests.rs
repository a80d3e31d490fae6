use super::*;

#[tokio::test]
async fn a_controller_that_says_nothing_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control.sock");
    let _listener = tokio::net::UnixListener::bind(&control).unwrap();
    let controller = Controller::Here(control.clone());
    let conversation = ask::<Status>(&controller, Method::GET, "/v1/status", None::<&()>);
    let error = within(Duration::from_millis(50), &controller, conversation).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the controller behind {} gave no answer within 50 ms; see its log, and whether it is \
             stopped",
            control.display()
        )
    );
}
