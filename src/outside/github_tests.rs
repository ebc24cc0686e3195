//! What deliveries ask for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The example of GitHub's documentation, "Validating webhook deliveries".
const SECRET: &[u8] = b"It's a Secret to Everybody";
const HELLO: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

#[test]
fn the_signature_of_githubs_own_example_is_right_and_no_other() {
    assert!(is_signed(SECRET, b"Hello, World!", HELLO));
    assert!(is_signed(SECRET, b"Hello, World!", &format!("sha256={}", HELLO[7..].to_uppercase())));
    assert!(!is_signed(SECRET, b"Hello, World?", HELLO));
    assert!(!is_signed(b"another secret", b"Hello, World!", HELLO));
    for header in ["", "sha256=", &HELLO[7..], &HELLO[..70], "sha1=0000", &format!("{HELLO}00")] {
        assert!(!is_signed(SECRET, b"Hello, World!", header), "{header}");
    }
}

fn user(login: &str) -> Value {
    json!({ "login": login, "type": "User" })
}

/// A delivery of a comment by a collaborator.
fn comment(body: &str) -> Value {
    json!({
        "action": "created",
        "issue": { "number": 7, "state": "open", "user": user("stranger"), "author_association": "NONE" },
        "comment": { "body": body, "user": user("mona"), "author_association": "COLLABORATOR" },
        "sender": user("mona"),
        "repository": { "full_name": "Acme/Shop", "html_url": "https://github.com/Acme/Shop" },
    })
}

fn labelled_by(login: &str) -> Value {
    let mut payload = comment("");
    payload["action"] = json!("labeled");
    payload["label"] = json!({ "name": "adw" });
    payload["sender"] = user(login);
    payload
}

fn asked(event: &str, payload: &Value) -> Asked {
    read(&GithubConfig::default(), event, payload.to_string().as_bytes()).unwrap()
}

#[track_caller]
fn why_not(event: &str, payload: &Value) -> String {
    match asked(event, payload) {
        Asked::Nothing(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_comment_and_a_label_start_a_run() {
    let order = |action, login: &str| {
        Asked::Order(Order {
            action,
            login: login.to_owned(),
            repository: "github.com/Acme/Shop".to_owned(),
            issue: "7".to_owned(),
        })
    };
    let run = Action::Run { phases: None, model: None };
    assert_eq!(asked("issue_comment", &comment("/adw run\nplease")), order(run.clone(), "mona"));
    assert_eq!(asked("issues", &labelled_by("mona")), order(run, "mona"));
    let some = Action::Run {
        phases: Some(vec!["plan".to_owned(), "build".to_owned()]),
        model: Some("opus".to_owned()),
    };
    assert_eq!(
        asked("issue_comment", &comment("/adw run plan,build model=opus")),
        order(some, "mona")
    );
    assert_eq!(asked("issue_comment", &comment("/adw cancel")), order(Action::Cancel, "mona"));
    assert_eq!(
        asked("issue_comment", &comment(" /adw  resume \r\n")),
        order(Action::Resume, "mona")
    );
    assert_eq!(asked("ping", &json!({ "zen": "x" })), Asked::Ping);
}

#[test]
fn who_may_not_ask_and_what_is_not_asked_starts_nothing() {
    let with = |pointer: &str, value: Value| {
        let mut payload = comment("/adw run");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        payload.pointer_mut(parent).unwrap()[key] = value;
        payload
    };
    for (payload, part) in [
        (with("/comment/author_association", json!("CONTRIBUTOR")), "mona (CONTRIBUTOR) may not"),
        (with("/comment/author_association", Value::Null), "mona (NONE) may not"),
        (with("/comment/user", json!({ "login": "x[bot]", "type": "User" })), "is a bot"),
        (with("/comment/user", json!({ "login": "x", "type": "Bot" })), "is a bot"),
        (with("/issue/pull_request", json!({ "url": "x" })), "7 is a pull request"),
        (with("/issue/state", json!("closed")), "issue 7 is closed"),
        (with("/action", json!("edited")), "\"edited\""),
        (comment("please /adw run"), "does not begin with /adw"),
        (comment("/adwd run"), "does not begin with /adw"),
        (comment("hello\n/adw run"), "does not begin with /adw"),
        (comment("/adw run\n\n<!-- adwd:0123 -->"), "our own"),
        (comment("/adw status"), "there is no /adw \"status\""),
        (comment("/adw run plan build"), "does not take \"build\""),
        (comment("/adw run modell=x"), "does not take \"modell=x\""),
        (comment("/adw cancel now"), "takes no words"),
    ] {
        let why = why_not("issue_comment", &payload);
        assert!(why.contains(part), "{why}");
    }
    assert!(why_not("push", &json!({})).contains("\"push\""));
    let mut other = labelled_by("mona");
    other["label"]["name"] = json!("bug");
    assert!(why_not("issues", &other).contains("\"bug\" starts nothing; \"adw\" does"));
}

#[test]
fn a_label_that_a_form_puts_on_a_strangers_issue_starts_nothing() {
    let why = why_not("issues", &labelled_by("stranger"));
    assert!(why.contains("stranger (NONE) may not"), "{why}");
    let mut own = labelled_by("stranger");
    own["issue"]["author_association"] = json!("MEMBER");
    assert!(matches!(asked("issues", &own), Asked::Order(_)));
    // Whose the issue is may be left out (a deleted account) or be spelt in other letters.
    let mut nobodys = labelled_by("stranger");
    nobodys["issue"]["user"] = json!(null);
    assert!(why_not("issues", &nobodys).contains("may not"));
    let mut spelt = labelled_by("stranger");
    spelt["sender"]["login"] = json!("Stranger");
    assert!(why_not("issues", &spelt).contains("may not"));
}

#[test]
fn a_named_author_may_whatever_it_is_and_associations_can_be_switched_off() {
    let config = GithubConfig {
        authors: vec!["Mona".to_owned()],
        associations: vec![],
        ..GithubConfig::default()
    };
    let mut payload = comment("/adw run");
    payload["comment"]["author_association"] = json!("NONE");
    let body = payload.to_string();
    assert!(matches!(read(&config, "issue_comment", body.as_bytes()), Ok(Asked::Order(_))));
    let body = labelled_by("somebody").to_string();
    assert!(matches!(read(&config, "issues", body.as_bytes()), Ok(Asked::Nothing(_))));
}

#[test]
fn a_body_that_is_no_delivery_is_an_error_that_says_so() {
    let config = GithubConfig::default();
    for body in ["", "{", "[]", "null", "{}", "{\"issue\": {\"number\": -1}}"] {
        let error = read(&config, "issues", body.as_bytes()).unwrap_err();
        assert!(error.contains("no delivery of GitHub's"), "{body}: {error}");
    }
    let deep = format!("{{\"x\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&config, "issues", deep.as_bytes()).is_err(), "and does not overflow the stack");
}

#[test]
fn a_repository_of_an_enterprise_server_has_its_host() {
    let mut payload = comment("/adw run");
    payload["repository"]["html_url"] = json!("https://git.acme.example/Acme/Shop");
    let Asked::Order(order) = asked("issue_comment", &payload) else { panic!() };
    assert_eq!(order.repository, "git.acme.example/Acme/Shop");
}

proptest! {
    #[test]
    fn any_comment_is_read(body in ".{0,80}") {
        let _ = command(&body);
    }

    #[test]
    fn what_is_signed_is_right_until_a_byte_of_it_changes(
        secret in proptest::collection::vec(any::<u8>(), 1..80),
        mut body in proptest::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
    ) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(&body);
        let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        let header = format!("sha256={hex}");
        prop_assert!(is_signed(&secret, &body, &header));
        let at = at.index(body.len());
        body[at] ^= 1;
        prop_assert!(!is_signed(&secret, &body, &header));
    }
}
