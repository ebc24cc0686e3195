//! The arguments of a call as they are recorded: secrets masked, long text cut, bounded. Pure.

use serde_json::{Map, Value, json};

use crate::limits::{
    AUDIT_DEPTH_COUNT, AUDIT_LOOKED_BYTES, AUDIT_PARAMS_BYTES, AUDIT_TEXT_CHARS, AUDIT_WORD_CHARS,
};
use crate::telemetry::{MASK, is_secret_name, redact};

/// What stands where there was no more room.
const NO_ROOM: &str = "…";

/// The arguments as JSON text.
///
/// What has a secret's name (`token`, `idempotency_key`, `password`) or a secret's form is masked.
/// A text longer than [`AUDIT_TEXT_CHARS`] is cut, with its length in bytes behind it. What would
/// not fit into [`AUDIT_PARAMS_BYTES`] any more is left out, with a mark of that.
#[must_use]
pub fn params(arguments: &Map<String, Value>) -> String {
    let mut room = AUDIT_PARAMS_BYTES;
    let kept = object(arguments, &mut room, AUDIT_DEPTH_COUNT);
    Value::Object(kept).to_string()
}

/// A name, id or word, without secrets and no longer than [`AUDIT_WORD_CHARS`].
#[must_use]
pub fn word(text: &str) -> String {
    cut(text, AUDIT_WORD_CHARS)
}

fn object(given: &Map<String, Value>, room: &mut usize, depth: usize) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in given {
        let shown = word(name);
        // Quotes, colon and comma; what is escaped takes more and is counted by the value's text.
        if !take(room, shown.len() + 4) {
            kept.insert(NO_ROOM.to_owned(), json!(format!("{} in all", given.len())));
            break;
        }
        let secret = is_secret_name(name) && !matches!(value, Value::Number(_) | Value::Bool(_));
        let value = match value {
            Value::Null => Value::Null,
            _ if secret => json!(MASK),
            value => bounded(value, room, depth),
        };
        kept.insert(shown, value);
    }
    kept
}

fn bounded(value: &Value, room: &mut usize, depth: usize) -> Value {
    let kept = match value {
        Value::String(text) => json!(cut(text, AUDIT_TEXT_CHARS)),
        Value::Array(_) | Value::Object(_) if depth == 0 => return json!(NO_ROOM),
        Value::Array(items) => {
            let mut kept = Vec::new();
            for item in items {
                if *room < 8 {
                    kept.push(json!(format!("{NO_ROOM} {} in all", items.len())));
                    break;
                }
                kept.push(bounded(item, room, depth - 1));
            }
            return Value::Array(kept);
        }
        Value::Object(given) => return Value::Object(object(given, room, depth - 1)),
        other => other.clone(),
    };
    // As JSON, because escapes make control characters six times as long.
    if take(room, kept.to_string().len() + 1) { kept } else { json!(NO_ROOM) }
}

/// Takes so much of the room; where there is less, all of it, and answers that it did not do.
fn take(room: &mut usize, bytes: usize) -> bool {
    let fits = bytes <= *room;
    *room = if fits { *room - bytes } else { 0 };
    fits
}

/// A text without secrets and no longer than so many characters.
fn cut(text: &str, chars: usize) -> String {
    let looked = &text[..text.floor_char_boundary(AUDIT_LOOKED_BYTES)];
    // Masked first: half a secret has no form by which it could be told.
    let masked = redact(looked);
    match masked.char_indices().nth(chars) {
        Some((at, _)) => format!("{}… [{} bytes]", &masked[..at], text.len()),
        None if looked.len() < text.len() => format!("{masked}… [{} bytes]", text.len()),
        None => masked.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: Value) -> Value {
        serde_json::from_str(&params(value.as_object().unwrap())).unwrap()
    }

    #[test]
    fn ordinary_arguments_are_recorded_as_they_came() {
        let asked = json!({ "issue_number": 42, "phases": ["plan"], "skip_cleanup": true,
            "project": "shop", "model": null, "context": { "book_number": 1 } });
        assert_eq!(of(asked.clone()), asked);
        assert_eq!(params(&Map::new()), "{}");
    }

    #[test]
    fn what_is_secret_by_name_or_by_form_is_masked_at_every_level() {
        let secret = "ghp_abcdefghij0123456789";
        let asked = json!({
            "token": "v1.k.payload.mac", "step_token": { "a": ["v1.k.p.m"] },
            "idempotency_key": "k", "password": "hunter22", "max_tokens": 7,
            "summary": format!("pushed with {secret}"),
            "output": { "references": [secret], "adwd": "adwd_team_ab12_s3cret" },
            secret: "a name",
        });
        let kept = of(asked);
        for name in ["token", "step_token", "idempotency_key", "password"] {
            assert_eq!(kept[name], MASK, "{name}");
        }
        assert_eq!(kept["max_tokens"], 7);
        assert_eq!(kept["summary"], "pushed with ***");
        let text = kept.to_string();
        assert!(!text.contains("ghp_") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn a_long_text_is_cut_with_its_length_and_no_secret_shows_at_the_cut() {
        let kept = of(json!({ "content": "é".repeat(100_000) }));
        let text = kept["content"].as_str().unwrap();
        assert!(text.ends_with("é… [200000 bytes]"), "{text}");
        assert_eq!(text.chars().take_while(|c| *c == 'é').count(), AUDIT_TEXT_CHARS);
        let across = format!("{} ghp_{}", "x".repeat(AUDIT_TEXT_CHARS - 10), "a1".repeat(50));
        let kept = of(json!({ "content": across }));
        assert!(!kept["content"].as_str().unwrap().contains("ghp_"), "{kept}");
    }

    #[test]
    fn very_many_arguments_and_very_deep_ones_are_bounded() {
        let many: Vec<u32> = (0..100_000).collect();
        let kept = of(json!({ "list": many, "after": 1 }));
        assert_eq!(kept["list"][0], 0);
        let last = kept["list"].as_array().unwrap().last().unwrap();
        assert_eq!(last, "… 100000 in all");
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert!(params(json!({ "deep": deep }).as_object().unwrap()).len() < 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_json_and_bounded_whatever_came(
            names in proptest::collection::vec(".{0,40}", 0..40),
            text in ".{0,700}",
        ) {
            let given: Map<String, Value> =
                names.into_iter().map(|name| (name, json!([&text, { "a": &text }]))).collect();
            let kept = params(&given);
            prop_assert!(serde_json::from_str::<Map<String, Value>>(&kept).is_ok());
            // What stands for the rest, and escapes of names, come on top.
            prop_assert!(kept.len() <= AUDIT_PARAMS_BYTES + 4_096, "{}", kept.len());
        }
    }
}
