//! What all pages have in common, and the ones about the node.

use super::*;

#[tokio::test]
async fn every_page_stands_and_lets_nothing_in() {
    for stage in [usual(), hostile()] {
        let stage = Arc::new(stage);
        for (path, name) in paths(&stage) {
            let (status, html, headers) = page(stage.clone(), &path, &[]).await;
            assert_eq!(status, 200, "{path}");
            let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert!(html.contains("name=\"viewport\"") && !html.contains("<script"), "{html}");
            let kind = if stage.not_ready.is_some() { "hostile" } else { "usual" };
            write(&format!("{kind}-{name}"), &html);
        }
    }
}

#[tokio::test]
async fn hostile_texts_are_text_on_every_page() {
    let stage = Arc::new(hostile());
    let mut all = paths(&stage);
    all.retain(|(path, _)| path != "/alerts");
    all.push(("/runs".into(), "filtered"));
    for (path, name) in all {
        let filter = [("pod", HOSTILE), ("alert", HOSTILE)];
        let (_, html, _) = page(stage.clone(), &path, if name == "filtered" { &filter } else { &[] }).await;
        let visible = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;--&gt;&lt;/title&gt;&lt;/style&gt;&lt;img src=x \
                       onerror=alert(1)&gt;⟨U+202E⟩⟨U+200B⟩⟨NUL⟩⟨ESC⟩[2J&amp;amp;";
        assert!(html.contains(visible), "{path}: {html}");
        assert_harmless(&html);
    }
}

#[tokio::test]
async fn the_worst_stands_first() {
    let (_, html, _) = page(Arc::new(usual()), "/", &[]).await;
    let places: Vec<_> =
        ["some probes fail", "Failing now", "In quarantine", "Last runs", "Containers <small>"]
            .iter()
            .map(|part| html.find(part).unwrap_or_else(|| panic!("{part} is not in {html}")))
            .collect();
    assert!(places.is_sorted(), "{places:?}");
    for part in [
        "shop/cart-0/cart",
        "exit status 2",
        "limits.memory",
        "14 times in a row",
        "alert TcpRetransmitsHigh",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let (_, html, _) = page(Arc::new(empty()), "/", &[]).await;
    for part in ["no probe fails", "No probe has run yet.", "No container runs here."] {
        assert!(html.contains(part), "{part}");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_asked_is_told() {
    let stage = Arc::new(usual());
    let (status, html, _) = page(stage.clone(), "/containers/nope", &[]).await;
    assert!(status == 404 && html.contains("nothing is known"), "{html}");
    let (status, html, _) = page(stage.clone(), "/runs", &[("outcome", "<b>")]).await;
    assert!(status == 400 && html.contains("outcome must be one of"), "{html}");
    let (status, html, _) = page(stage.clone(), "/runs", &[("pod", "checkout"), ("outcome", "failed")]).await;
    assert!(
        status == 200 && html.contains("No run fits.") && html.contains("<option selected>failed"),
        "{html}"
    );
    for path in ["/nowhere", "/containers/", "/containers/a/b", "/runs/"] {
        let gone = serve(path, &Method::GET, Query::default(), stage.clone()).await;
        assert!(gone.is_none_or(|answer| answer.status() == StatusCode::NOT_FOUND), "{path}");
    }
    let post = serve("/runs", &Method::POST, Query::default(), stage).await.unwrap();
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
}
