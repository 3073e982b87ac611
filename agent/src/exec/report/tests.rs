//! Lines, documents and summaries, written to pipes.

use std::io::Read as _;

use rustix::pipe::pipe;

use super::*;

/// A report on two containers, and the ends to read it from.
fn report(style: Style, is_terminal: bool) -> (Report, [OwnedFd; 2]) {
    let label = |pod: &str| Label { pod: pod.into(), name: format!("shop/{pod}/c"), ..Label::default() };
    let ((out, to_out), (err, to_err)) = (pipe().unwrap(), pipe().unwrap());
    let outlet = |fd| Outlet { fd, is_terminal, waiting: Vec::new(), closed: false };
    let labels = vec![label("a"), label("long")];
    (Report::with(style, "ss".into(), labels, [outlet(to_out), outlet(to_err)]), [out, err])
}

fn end(report: Report, ends: [OwnedFd; 2]) -> [String; 2] {
    drop(report);
    ends.map(|end| {
        let mut text = Vec::new();
        std::fs::File::from(end).read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn exited(code: i32) -> Outcome {
    Outcome::Ended(End::Exited { code })
}

#[test]
fn lines_come_whole_with_their_name_before_them_and_byte_exact() {
    let (mut report, ends) = report(Style::Lines, false);
    report.output(0, 0, b"one\ntw");
    report.output(1, 0, b"\x1b[31m\xff\tx\n");
    report.output(0, 0, b"o\n");
    report.output(0, 1, b"no newline");
    report.done(0, &exited(0), Duration::ZERO);
    report.done(1, &exited(3), Duration::ZERO);
    assert!(!report.finish());
    let [out, err] = end(report, ends);
    assert_eq!(out, "shop/a/c    | one\nshop/long/c | \x1b[31m\u{fffd}\tx\nshop/a/c    | two\n");
    assert_eq!(err, "shop/a/c    | no newline\n2 containers: 1 ok, 1 failed\n  shop/long/c: exit status 3\n");
}

#[test]
fn a_terminal_sees_controls_in_caret_form_and_the_progress_is_wiped() {
    let (mut report, ends) = report(Style::Lines, true);
    report.progress([0, 1].into_iter());
    report.output(0, 0, "\x1b]52;c;x\x07ü\ty\u{9b}c\n".as_bytes());
    report.done(0, &exited(0), Duration::ZERO);
    report.done(1, &Outcome::NotRun, Duration::ZERO);
    report.finish();
    let [out, err] = end(report, ends);
    assert_eq!(out, "\r\x1b[Kshop/a/c    | ^[]52;c;x^Gü\ty\\xc2\\x9bc\n");
    assert!(err.starts_with("\r\x1b[K0/2 done, 0 failed, running: shop/a/c, shop/long/c\r\x1b[K"), "{err:?}");
    assert!(
        err.ends_with("2 containers: 1 ok, 1 failed\n  shop/long/c: not run: a signal came first\n"),
        "{err:?}"
    );
}

#[test]
fn a_line_without_an_end_is_cut_and_nothing_of_it_is_lost() {
    let (mut report, ends) = report(Style::Lines, false);
    let text = vec![b'x'; 3 * MAX_LINE / 2];
    let reader = std::thread::spawn(move || {
        let [out, err] = ends.map(std::fs::File::from);
        drop(err);
        io::read_to_string(out).unwrap()
    });
    for piece in text.chunks(1000) {
        report.output(0, 0, piece);
    }
    report.done(0, &exited(0), Duration::ZERO);
    report.finish();
    drop(report);
    let out = reader.join().unwrap();
    assert_eq!(out.lines().count(), 2);
    assert_eq!(out.matches('x').count(), text.len());
}

#[test]
fn json_is_one_document_with_exact_bytes_and_bounds() {
    let (mut report, ends) = report(Style::Json, false);
    report.output(0, 0, b"text");
    report.output(0, 1, b"\xff");
    report.done(0, &exited(0), Duration::from_millis(1500));
    for _ in 0..6 {
        report.output(1, 0, &vec![b'x'; 1024 * 1024]);
    }
    report.done(1, &Outcome::Ended(End::TimedOut { stuck: false }), Duration::ZERO);
    let reader = std::thread::spawn(move || {
        let [out, err] = ends.map(std::fs::File::from);
        (io::read_to_string(out).unwrap(), io::read_to_string(err).unwrap())
    });
    assert!(!report.finish());
    drop(report);
    let (out, err) = reader.join().unwrap();
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["summary"], json!({ "matched": 2, "ok": 1, "failed": 1 }));
    let [first, second] = document["runs"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!((first["outcome"].as_str(), first["stdout"].as_str()), (Some("ok"), Some("text")));
    assert_eq!((&first["stderr_base64"], &first["duration_seconds"]), (&json!("/w=="), &json!(1.5)));
    assert_eq!((&second["outcome"], &second["exit_status"]), (&json!("timeout"), &json!(124)));
    assert_eq!(second["truncated"], json!(true));
    assert_eq!(second["stdout"].as_str().map(str::len), Some(MAX_CAPTURE));
    assert!(err.starts_with("2 containers: 1 ok, 1 failed"), "{err}");
}
