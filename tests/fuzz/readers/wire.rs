//! Messages and arguments: their weight, what tools take of them, what of them is written down.

use adwd::audit;
use adwd::limits::AUDIT_PARAMS_BYTES;
use adwd::mcp::args::Args;
use adwd::mcp::bounds::MESSAGE_VALUES_COUNT;
use adwd::mcp::tools;
use adwd::mcp::weight::Weight;
use adwd::steps::output;
use adwd::telemetry::{neutralise, redact};
use serde_json::Value;

use super::{choice, text};

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    if let Some(text) = text(bytes) {
        let masked = redact(text);
        let shown = neutralise(&masked);
        assert!(!shown.contains(['\n', '\r', '\u{1b}', '\u{202e}']));
        assert_eq!(neutralise(&shown), shown);
    }
    let mut weight = Weight::default();
    let light = weight.add(bytes);
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    // Whatever is let through is no heavier than what is said.
    assert!(!light || values(&value) <= 2 * MESSAGE_VALUES_COUNT + 1);
    if let Ok(taken) = output::normalise(&value) {
        assert!(output::check(&taken).is_ok());
        assert_eq!(output::digest(&taken), output::digest(&taken.clone()));
        let _ = output::focus(&taken);
    }
    let Value::Object(given) = value else { return };
    let params = audit::params(&given);
    assert!(params.len() <= 2 * AUDIT_PARAMS_BYTES, "{} bytes are kept", params.len());
    assert!(serde_json::from_str::<Value>(&params).is_ok());
    let tool = tools::all().nth(usize::from(choice) % tools::all().count());
    let Some(tool) = tool else { return };
    match Args::read(tool.name, tool.fields, &given) {
        // What was taken is taken again in its plain form, and is the same.
        Ok(args) => {
            let plain = args.to_json();
            let again = plain.as_object().and_then(|o| Args::read(tool.name, tool.fields, o).ok());
            assert_eq!(again.map(|args| args.to_json()), Some(plain), "{}", tool.name);
        }
        Err(error) => assert!(error.message.len() < 10_000, "{}", error.message.len()),
    }
}

fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.values().map(values).sum(),
        _ => 0,
    }
}
