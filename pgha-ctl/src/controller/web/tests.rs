use axum::body::to_bytes;

use super::*;

fn header(response: &Response, name: axum::http::HeaderName) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_page_has_a_nonce_of_its_own_in_its_policy_and_in_its_text() {
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let response = page().await;
        let policy = header(&response, CONTENT_SECURITY_POLICY);
        assert_eq!(header(&response, CACHE_CONTROL), "no-store");
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "script and style");
        assert!(!text.contains(NONCE));
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
    assert_eq!(nonces[0].len(), 32);
}

#[test]
fn the_policy_allows_no_text_to_become_code() {
    let policy = policy("x");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(policy.starts_with("default-src 'none'; "));
}

/// What a browser would load, run or read as markup from elsewhere than the page's own script.
#[test]
fn the_page_names_nothing_from_elsewhere_and_makes_no_markup_of_text() {
    for never in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        " onclick=",
        " onload=",
        " src=",
        "@import",
        "url(",
        "POST",
        "style=\"",
    ] {
        assert!(!PAGE.contains(never), "{never}");
    }
    let elsewhere = PAGE.match_indices("http").map(|(at, _)| &PAGE[at..PAGE.len().min(at + 30)]);
    // The name of a vocabulary, which no browser asks for.
    let loaded: Vec<_> =
        elsewhere.filter(|text| !text.starts_with("http://www.w3.org/2000/svg")).collect();
    assert!(loaded.is_empty(), "{loaded:?}");
}
