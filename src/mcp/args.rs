//! Arguments of tools: one table per tool makes both the input schema and the check.
//!
//! Models and people get names, types and quoting slightly wrong all the time. What is meant
//! without doubt is taken (42 for "42"); everything else is answered with the right form.

mod near;

use std::collections::BTreeMap;

use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};

use super::bounds::{ARGUMENT_LIST_COUNT, ARGUMENT_MAX_CHARS, GROUPS_COUNT, PROSE_MAX_CHARS};
use super::error::ToolError;
use crate::clock::Millis;

pub use near::{clip, nearest};

/// What an argument may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An identifier: a string, or a whole number that stands for its digits.
    Id,
    /// Free text.
    Text,
    /// True or false.
    Flag,
    /// A whole number within bounds.
    Int(i64, i64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// A list of words.
    List,
    /// A moment: RFC 3339, or epoch milliseconds.
    Moment,
    /// A finite number.
    Number,
    /// A finite number within bounds.
    Real(i64, i64),
    /// A whole number from 1 that names something, or text of its digits.
    Key,
    /// Long text.
    Prose,
    /// Arguments within an argument.
    Group(&'static [Field]),
    /// A list of such.
    Groups(&'static [Field]),
    /// Structured data of the form that the schema shows; what is inside is checked by the slice
    /// that takes it. Text that holds such JSON is taken too: some models quote what they nest.
    Json(fn() -> Value),
}

/// One argument of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether the tool needs it.
    pub required: bool,
    /// What it means, for a model.
    pub about: &'static str,
}

/// A required argument.
#[must_use]
pub const fn need(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: true, about }
}

/// An optional argument.
#[must_use]
pub const fn may(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: false, about }
}

/// The input schema of a tool with these arguments.
#[must_use]
pub fn input_schema(fields: &[Field]) -> JsonObject {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name.to_owned(), field_schema(field));
    }
    let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn field_schema(field: &Field) -> Value {
    // Two single-type branches: a `type` array is what the inspector and Gemini's dialect mind.
    let string_or_integer = json!([{ "type": "string" }, { "type": "integer" }]);
    let mut schema = match field.kind {
        Kind::Id | Kind::Moment => json!({ "anyOf": string_or_integer }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Int(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Real(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Key => json!({ "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^[1-9][0-9]*$" },
        ] }),
        Kind::Prose => json!({ "type": "string" }),
        Kind::Group(fields) => Value::Object(input_schema(fields)),
        Kind::Groups(fields) => json!({ "type": "array", "items": input_schema(fields) }),
        Kind::Json(schema) => schema(),
    };
    if let Value::Object(object) = &mut schema {
        object.insert("description".to_owned(), json!(field.about));
    }
    schema
}

/// Checked arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    values: BTreeMap<&'static str, Checked>,
}

#[derive(Clone, Debug, PartialEq)]
enum Checked {
    Text(String),
    Flag(bool),
    Int(i64),
    List(Vec<String>),
    Json(Value),
    Group(Args),
    Groups(Vec<Args>),
}

impl Checked {
    fn to_json(&self) -> Value {
        match self {
            Checked::Text(text) => json!(text),
            Checked::Flag(flag) => json!(flag),
            Checked::Int(number) => json!(number),
            Checked::List(list) => json!(list),
            Checked::Json(value) => value.clone(),
            Checked::Group(args) => args.to_json(),
            Checked::Groups(list) => list.iter().map(Args::to_json).collect(),
        }
    }
}

impl Args {
    /// Checks what came against what the tool takes. A `null` counts as absent, since some
    /// clients fill every optional argument with it.
    pub fn read(tool: &str, fields: &[Field], given: &JsonObject) -> Result<Args, ToolError> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let Some(field) = fields.iter().find(|f| f.name == name) else {
                return Err(unknown_argument(tool, name, fields));
            };
            if !value.is_null() {
                values.insert(field.name, check(tool, field, value)?);
            }
        }
        match fields.iter().find(|f| f.required && !values.contains_key(f.name)) {
            Some(missing) => Err(ToolError::argument(
                format!("{tool} needs {:?}, which is missing", missing.name),
                format!("add {:?}: {}", missing.name, missing.about),
            )),
            None => Ok(Args { values }),
        }
    }

    /// A text, word or id.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        match self.values.get(name) {
            Some(Checked::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// A text that [`Args::read`] has made sure is there.
    #[must_use]
    pub fn needed(&self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    /// A flag, false where absent.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Checked::Flag(true)))
    }

    /// A number; a moment in epoch milliseconds.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Checked::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// A number that fits, which [`Args::read`] has made sure of where the bounds say so.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u32> {
        self.int(name).and_then(|n| u32::try_from(n).ok())
    }

    /// A number, as it was written.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<serde_json::Number> {
        match self.values.get(name) {
            Some(Checked::Json(Value::Number(number))) => Some(number.clone()),
            _ => None,
        }
    }

    /// Structured data.
    #[must_use]
    pub fn json(&self, name: &str) -> Option<&Value> {
        match self.values.get(name) {
            Some(Checked::Json(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether the argument was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// What was given, in its plain form: ids as numbers, quoted numbers as numbers, no nulls.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let given = self.values.iter();
        Value::Object(given.map(|(name, value)| ((*name).to_owned(), value.to_json())).collect())
    }

    /// A list.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        match self.values.get(name) {
            Some(Checked::List(list)) => Some(list.clone()),
            _ => None,
        }
    }
}

fn check(tool: &str, field: &Field, value: &Value) -> Result<Checked, ToolError> {
    let within = |at: String| format!("{tool}: {}{at}", field.name);
    let checked = match field.kind {
        Kind::Group(fields) => match json_of(value, &json!({ "type": "object" })) {
            Some(Value::Object(given)) => {
                return Args::read(&within(String::new()), fields, &given).map(Checked::Group);
            }
            _ => None,
        },
        Kind::Groups(fields) => match groups_of(value) {
            Some(list) => {
                let read = |(at, given)| Args::read(&within(format!("[{at}]")), fields, given);
                let args = list.iter().enumerate().map(read).collect::<Result<_, _>>()?;
                return Ok(Checked::Groups(args));
            }
            None => None,
        },
        Kind::Id => text_of(value).or_else(|| digits_of(value)).map(Checked::Text),
        Kind::Text => text_of(value).map(Checked::Text),
        Kind::Flag => flag_of(value).map(Checked::Flag),
        Kind::Int(min, max) => int_of(value).filter(|n| (min..=max).contains(n)).map(Checked::Int),
        Kind::Word(words) => {
            text_of(value).filter(|word| words.contains(&word.as_str())).map(Checked::Text)
        }
        Kind::List => list_of(value).map(Checked::List),
        Kind::Moment => moment_of(value).map(Checked::Int),
        Kind::Number => number_of(value).map(Checked::Json),
        Kind::Real(min, max) => number_of(value).filter(|n| fits(n, min, max)).map(Checked::Json),
        Kind::Key => int_of(value).filter(|n| *n >= 1).map(Checked::Int),
        Kind::Prose => prose_of(value).map(Checked::Text),
        Kind::Json(schema) => json_of(value, &schema()).map(Checked::Json),
    };
    checked.ok_or_else(|| {
        let expected = expected(field.kind);
        ToolError::argument(
            format!("{}: got {}; expected {expected}", field.name, clip(&value.to_string())),
            format!("{}: {}", field.name, field.about),
        )
    })
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Id => "a string, or a whole number".to_owned(),
        Kind::Text => format!("a string of at most {ARGUMENT_MAX_CHARS} characters"),
        Kind::Flag => "true or false".to_owned(),
        Kind::Int(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::List => format!("a list of at most {ARGUMENT_LIST_COUNT} strings"),
        Kind::Moment => {
            "RFC 3339 such as \"2026-11-21T09:00:00Z\", or milliseconds since 1970".to_owned()
        }
        Kind::Number => "a number".to_owned(),
        Kind::Real(min, max) => format!("a number from {min} to {max}"),
        Kind::Key => "a whole number from 1, or text of its digits".to_owned(),
        Kind::Prose => format!("a string of at most {PROSE_MAX_CHARS} characters"),
        Kind::Group(fields) => format!("an object of {}", names(fields)),
        Kind::Groups(fields) => {
            format!("a list of at most {GROUPS_COUNT} objects of {}", names(fields))
        }
        Kind::Json(schema) => format!("an {}", json_type(&schema())),
    }
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().filter(|text| text.chars().count() <= ARGUMENT_MAX_CHARS).map(str::to_owned)
}

fn prose_of(value: &Value) -> Option<String> {
    value.as_str().filter(|text| text.chars().count() <= PROSE_MAX_CHARS).map(str::to_owned)
}

/// A list of objects, or text that holds one.
fn groups_of(value: &Value) -> Option<Vec<JsonObject>> {
    let Some(Value::Array(items)) = json_of(value, &json!({ "type": "array" })) else {
        return None;
    };
    let list: Option<Vec<JsonObject>> = items
        .into_iter()
        .map(|item| if let Value::Object(o) = item { Some(o) } else { None })
        .collect();
    list.filter(|list| list.len() <= GROUPS_COUNT)
}

fn fits(number: &Value, min: i64, max: i64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
    let (min, max) = (min as f64, max as f64);
    number.as_f64().is_some_and(|n| (min..=max).contains(&n))
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

/// The digits of a whole number; leading zeros are lost before we see it, which is why the
/// schema's first choice is a string.
fn digits_of(value: &Value) -> Option<String> {
    value
        .as_i64()
        .map(|n| n.to_string())
        .or_else(|| value.as_u64().map(|n| n.to_string()))
        .or_else(|| whole(value).map(|n| n.to_string()))
}

/// 42.0 for 42, as languages with one kind of number write it.
fn whole(value: &Value) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let number = value.as_f64()?;
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

fn int_of(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| whole(value))
        .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
}

fn flag_of(value: &Value) -> Option<bool> {
    value.as_bool().or(match value.as_str() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    })
}

fn list_of(value: &Value) -> Option<Vec<String>> {
    let list: Option<Vec<String>> = match value {
        Value::Array(items) => items.iter().map(text_of).collect(),
        Value::String(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
        _ => None,
    };
    list.filter(|list| list.len() <= ARGUMENT_LIST_COUNT)
}

fn moment_of(value: &Value) -> Option<i64> {
    int_of(value).or_else(|| value.as_str().and_then(Millis::parse_rfc3339).map(|at| at.0))
}

/// A number, or text that is one.
fn number_of(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => {
            serde_json::from_str::<serde_json::Number>(text.trim()).ok().map(Value::Number)
        }
        _ => None,
    }
}

/// The JSON type that a schema asks for.
fn json_type(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or("object")
}

fn json_of(value: &Value, schema: &Value) -> Option<Value> {
    let fits = |value: &Value| match json_type(schema) {
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if fits(value) {
        return Some(value.clone());
    }
    let quoted = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    quoted.filter(fits)
}

fn unknown_argument(tool: &str, name: &str, fields: &[Field]) -> ToolError {
    let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
    let message = format!("{tool} has no argument {:?}", clip(name));
    let inner = fields.iter().find(|field| match field.kind {
        Kind::Group(fields) => fields.iter().any(|field| field.name == name),
        _ => false,
    });
    let hint = match (nearest(name, &names), names.is_empty()) {
        _ if inner.is_some_and(|outer| outer.name != name) => {
            let outer = inner.map_or("", |outer| outer.name);
            format!("it belongs into {outer:?}: {{{outer:?}: {{{name:?}: …}}}}")
        }
        (_, true) => "it takes no arguments".to_owned(),
        (Some(near), _) => format!("did you mean {near:?}? It takes: {}", names.join(", ")),
        (None, _) => format!("it takes: {}", names.join(", ")),
    };
    ToolError::new("unknown_argument", message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELDS: &[Field] = &[
        need("issue_number", Kind::Id, "the issue"),
        may("adw_id", Kind::Id, "the id"),
        may("skip_cleanup", Kind::Flag, "keep"),
        may("limit", Kind::Int(1, 100), "how many"),
        may("status_filter", Kind::Word(&["queued", "running"]), "which"),
        may("phases", Kind::List, "which"),
        may("since", Kind::Moment, "when"),
        may("model", Kind::Text, "model"),
        may("score", Kind::Number, "score"),
        may("output", Kind::Json(output_schema), "output"),
    ];

    fn output_schema() -> Value {
        json!({ "type": "object", "properties": { "summary": { "type": "string" } } })
    }

    fn read(value: Value) -> Result<Args, ToolError> {
        Args::read("t", FIELDS, value.as_object().unwrap())
    }

    #[test]
    fn numbers_stand_for_their_digits() {
        for issue in [json!(42), json!("42"), json!(42.0)] {
            assert_eq!(
                read(json!({ "issue_number": issue })).unwrap().needed("issue_number"),
                "42"
            );
        }
        assert_eq!(
            read(json!({ "issue_number": 1, "adw_id": 12345678 })).unwrap().text("adw_id").unwrap(),
            "12345678"
        );
        let wrong = read(json!({ "issue_number": true })).unwrap_err();
        assert!(wrong.message.contains("issue_number: got true"), "{wrong:?}");
        assert!(read(json!({ "issue_number": 1.5 })).is_err());
    }

    #[test]
    fn a_null_is_an_absence_and_a_missing_argument_is_named() {
        let args = read(json!({ "issue_number": 1, "model": null, "phases": null })).unwrap();
        assert_eq!((args.text("model"), args.list("phases")), (None, None));
        let missing = read(json!({ "issue_number": null })).unwrap_err();
        assert!(missing.message.contains("issue_number"), "{missing:?}");
    }

    #[test]
    fn an_unknown_argument_names_the_nearest_right_one() {
        let cases = [
            ("issue", "issue_number"),
            ("issueNumber", "issue_number"),
            ("adwid", "adw_id"),
            ("adw-id", "adw_id"),
            ("status", "status_filter"),
            ("phase", "phases"),
            ("limt", "limit"),
        ];
        for (given, meant) in cases {
            let error = read(json!({ "issue_number": 1, given: 1 })).unwrap_err();
            assert_eq!(error.code, "unknown_argument");
            let hint = error.hint.unwrap();
            assert!(hint.contains(&format!("did you mean {meant:?}")), "{given}: {hint}");
        }
        let hint = read(json!({ "zzzzzz": 1 })).unwrap_err().hint.unwrap();
        assert!(hint.starts_with("it takes: issue_number"), "{hint}");
    }

    #[test]
    fn lists_moments_flags_and_words() {
        let args = read(json!({
            "issue_number": "1", "phases": "plan, build", "since": "1970-01-01T00:00:01Z",
            "skip_cleanup": "true", "limit": "7", "status_filter": "running",
        }))
        .unwrap();
        assert_eq!(args.list("phases").unwrap(), ["plan", "build"]);
        assert_eq!(args.int("since"), Some(1000));
        assert!(args.flag("skip_cleanup"));
        assert_eq!(args.count("limit"), Some(7));
        for bad in [
            json!({ "issue_number": 1, "limit": 0 }),
            json!({ "issue_number": 1, "limit": 101 }),
            json!({ "issue_number": 1, "status_filter": "done" }),
            json!({ "issue_number": 1, "since": "yesterday" }),
            json!({ "issue_number": 1, "phases": [1] }),
            json!({ "issue_number": 1, "model": "x".repeat(ARGUMENT_MAX_CHARS + 1) }),
        ] {
            let error = read(bad.clone()).unwrap_err();
            assert!(error.message.contains("expected"), "{bad}: {error:?}");
        }
        assert_eq!(read(json!({ "issue_number": 1, "since": 5 })).unwrap().int("since"), Some(5));
    }

    #[test]
    fn numbers_and_structured_data_are_kept_as_they_were_written() {
        let args = read(json!({
            "issue_number": 1, "score": 79.95, "output": { "summary": "s", "odd": [1] },
        }))
        .unwrap();
        assert_eq!(args.number("score").unwrap().to_string(), "79.95");
        assert_eq!(args.json("output"), Some(&json!({ "summary": "s", "odd": [1] })));
        let quoted = read(json!({ "issue_number": 1, "score": " 80 ", "output": "{\"a\":1}" }));
        let quoted = quoted.unwrap();
        assert_eq!(quoted.json("output"), Some(&json!({ "a": 1 })));
        assert_eq!(quoted.number("score").unwrap().as_i64(), Some(80));
        for bad in [
            json!({ "issue_number": 1, "score": "high" }),
            json!({ "issue_number": 1, "output": "done" }),
            json!({ "issue_number": 1, "output": [1] }),
        ] {
            assert!(read(bad.clone()).unwrap_err().message.contains("expected"), "{bad}");
        }
    }

    #[test]
    fn the_input_schema_is_flat_closed_and_plain() {
        let schema = Value::Object(input_schema(FIELDS));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!(["issue_number"]));
        assert_eq!(super::super::schema::oddities(&schema), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn nothing_a_caller_sends_makes_the_check_panic(name in ".{0,80}", text in ".{0,80}", n in any::<f64>()) {
            let _ = read(json!({ name.clone(): text }));
            let _ = read(json!({ "issue_number": n, "limit": n, "since": text }));
            let _ = nearest(&name, &["issue_number", "adw_id"]);
        }
    }
}
