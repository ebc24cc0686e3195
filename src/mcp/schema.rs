//! JSON Schemas that every client understands.
//!
//! What schemars derives is right and yet odd to clients: `type` arrays with `null`, formats that
//! only Rust knows (`uint32`), references, bare `true`. Validators warn about them, some model
//! providers refuse the tool. So each schema is made plain once, at start-up.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Formats that JSON Schema itself defines and validators know.
const KNOWN_FORMATS: [&str; 8] =
    ["date-time", "date", "time", "duration", "email", "uri", "uuid", "regex"];

/// Keys that say nothing to a client.
const NOISE: [&str; 2] = ["$schema", "title"];

/// The schema of a tool's structured answer.
///
/// A refused call answers `{error: …}` under the same schema: the TypeScript SDK validates the
/// structured content of error results too, and would replace our message by its own.
#[must_use]
pub fn answer<T: JsonSchema>() -> JsonObject {
    let mut schema = plain_schema_of::<T>();
    let required = schema.remove("required").unwrap_or_else(|| json!([]));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("error".to_owned(), error_schema());
    }
    schema.insert("anyOf".to_owned(), json!([{ "required": required }, { "required": ["error"] }]));
    schema
}

/// The schema of `T` as it is serialised, made plain.
fn plain_schema_of<T: JsonSchema>() -> JsonObject {
    let settings = SchemaSettings::draft2020_12()
        .with(|s| {
            s.inline_subschemas = true;
        })
        .for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    plain(&mut schema);
    match schema {
        Value::Object(mut object) => {
            object.remove("$defs");
            object.remove("description");
            object.entry("type").or_insert_with(|| json!("object"));
            object
        }
        _ => Map::new(),
    }
}

/// The schema of the error every tool may answer with.
fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "Only in error results: what is wrong and what to do.",
        "properties": {
            "code": { "type": "string", "description": "Stable word for programs." },
            "message": { "type": "string", "description": "What is wrong, where." },
            "hint": { "type": "string", "description": "What to do about it." },
            "retry_after_ms": {
                "type": "integer",
                "description": "After how many ms the call would be let through.",
            },
        },
        "required": ["code", "message"],
    })
}

/// Makes a schema and everything below it plain.
pub fn plain(schema: &mut Value) {
    match schema {
        Value::Bool(true) => *schema = json!({ "type": "object", "additionalProperties": true }),
        Value::Object(object) => {
            drop_noise(object);
            drop_null(object);
            collapse_constants(object);
            if !constrains(object) {
                object.insert("type".to_owned(), json!("object"));
                object.insert("additionalProperties".to_owned(), json!(true));
            }
            below(object);
        }
        _ => {}
    }
}

/// Visits the schemas inside a schema.
fn below(object: &mut Map<String, Value>) {
    let required: Vec<Value> =
        object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(map)) => {
                for (name, inner) in map {
                    if required.iter().any(|r| r == name) {
                        plain_told(inner)
                    } else {
                        plain(inner)
                    }
                }
            }
            ("patternProperties" | "$defs", Value::Object(map)) => {
                map.values_mut().for_each(plain);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                // `{"required": […]}` alone is a condition, not the schema of a value.
                list.iter_mut().filter(|s| s.get("required").is_none()).for_each(plain);
            }
            ("items" | "contains", inner) => plain(inner),
            ("additionalProperties", inner @ Value::Object(_)) => plain(inner),
            _ => {}
        }
    }
}

fn drop_noise(object: &mut Map<String, Value>) {
    for key in NOISE {
        // A *property* called title lives one level deeper, under `properties`.
        object.remove(key);
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    let odd = object
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| !KNOWN_FORMATS.contains(&format));
    if odd {
        object.remove("format");
    }
}

/// Makes the schema of a field plain that is always told. Where it may be null it is a figure that
/// can be undefined (a pace without hours), and null stays: as a branch of its own, because a `type`
/// array is what clients mind.
fn plain_told(schema: &mut Value) {
    let undefined = allows_null(schema);
    plain(schema);
    let Value::Object(object) = schema else { return };
    if !undefined {
        return;
    }
    let description = object.remove("description");
    let told = std::mem::take(object);
    object.extend(description.map(|text| ("description".to_owned(), text)));
    object.insert("anyOf".to_owned(), json!([told, { "type": "null" }]));
}

fn allows_null(schema: &Value) -> bool {
    let is_null =
        |t: &Value| t == "null" || t.as_array().is_some_and(|all| all.contains(&json!("null")));
    let branches = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array());
    schema.get("type").is_some_and(is_null) || branches.flatten().any(allows_null)
}

/// A field that is not always told is absent where there is nothing to tell, never null, so `null`
/// is taken out of its unions.
fn drop_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(words)) = object.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(branches)) = object.get_mut(key) else { continue };
        branches.retain(|branch| branch.get("type").is_none_or(|t| t != "null"));
        if branches.len() == 1
            && let Value::Object(only) = branches.remove(0)
        {
            object.remove(key);
            for (name, value) in only {
                object.entry(name).or_insert(value);
            }
        }
    }
}

/// `oneOf` of single words, which is how documented enums come out, becomes one `enum`.
fn collapse_constants(object: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = object.get("oneOf") else { return };
    let mut words = Vec::new();
    for branch in branches {
        match (branch.get("const"), branch.get("enum")) {
            (Some(word), _) => words.push(word.clone()),
            (None, Some(Value::Array(list))) => words.extend(list.iter().cloned()),
            _ => return,
        }
    }
    if words.iter().all(Value::is_string) {
        object.remove("oneOf");
        object.insert("type".to_owned(), json!("string"));
        object.insert("enum".to_owned(), Value::Array(words));
    }
}

fn constrains(object: &Map<String, Value>) -> bool {
    object.keys().any(|key| key != "description" && key != "default" && key != "examples")
}

/// What is odd in a schema, as paths: what `plain` must leave nothing of. For tests and doctor.
#[must_use]
pub fn oddities(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema, "", false, &mut found);
    found
}

/// What is odd in the schema of an answer, where a figure may be undefined: `anyOf` of one schema
/// and null, and in no other form.
#[must_use]
pub fn answer_oddities(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema, "", true, &mut found);
    found
}

fn look(schema: &Value, path: &str, undefined: bool, found: &mut Vec<String>) {
    let Value::Object(object) = schema else {
        if schema.is_boolean() {
            found.push(format!("{path}: boolean schema"));
        }
        return;
    };
    if object.get("type").is_some_and(Value::is_array) {
        found.push(format!("{path}: type is an array"));
    }
    if object.get("type").is_some_and(|t| t == "null") {
        found.push(format!("{path}: null"));
    }
    if object.contains_key("$ref") {
        found.push(format!("{path}: $ref"));
    }
    if let Some(format) = object.get("format").and_then(Value::as_str)
        && !KNOWN_FORMATS.contains(&format)
    {
        found.push(format!("{path}: format {format}"));
    }
    if !constrains(object) {
        found.push(format!("{path}: accepts anything"));
    }
    for (key, value) in object {
        match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(map)) => {
                for (name, inner) in map {
                    look(inner, &format!("{path}/{name}"), undefined, found);
                }
            }
            ("anyOf", Value::Array(list)) if undefined && is_figure_or_null(list) => {
                look(&list[0], path, undefined, found);
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
                for (at, inner) in list.iter().enumerate() {
                    look(inner, &format!("{path}/{key}[{at}]"), undefined, found);
                }
            }
            ("items", inner) => look(inner, &format!("{path}[]"), undefined, found),
            _ => {}
        }
    }
}

fn is_figure_or_null(branches: &[Value]) -> bool {
    matches!(branches, [_, null] if *null == json!({ "type": "null" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::{LogPage, ProjectView, RunPage, RunView, Triggered};

    #[test]
    fn unions_with_null_formats_and_documented_enums_become_plain() {
        let mut schema = json!({
            "$schema": "x", "title": "T", "type": "object",
            "properties": {
                "title": { "type": ["string", "null"], "default": null },
                "n": { "type": "integer", "format": "uint32" },
                "at": { "type": "string", "format": "date-time" },
                "any": true,
                "anything": { "description": "d" },
                "s": { "anyOf": [
                    { "oneOf": [{ "const": "a", "type": "string" }, { "const": "b" }] },
                    { "type": "null" }] },
            },
        });
        plain(&mut schema);
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "title": { "type": "string" },
                    "n": { "type": "integer" },
                    "at": { "type": "string", "format": "date-time" },
                    "any": { "type": "object", "additionalProperties": true },
                    "anything": {
                        "description": "d", "type": "object", "additionalProperties": true },
                    "s": { "type": "string", "enum": ["a", "b"] },
                },
            })
        );
        assert_eq!(oddities(&schema), Vec::<String>::new());
    }

    #[test]
    fn a_figure_that_is_always_told_may_be_null_and_nothing_else_may() {
        let mut schema = json!({
            "type": "object",
            "required": ["pace", "word", "day"],
            "properties": {
                "pace": { "type": ["number", "null"], "format": "double", "description": "words" },
                "word": { "type": ["string", "null"], "enum": ["a", null] },
                "day": { "type": "string" },
                "note": { "type": ["string", "null"] },
            },
        });
        plain(&mut schema);
        assert_eq!(
            schema["properties"],
            json!({
                "pace": {
                    "description": "words", "anyOf": [{ "type": "number" }, { "type": "null" }] },
                "word": { "anyOf": [{ "type": "string", "enum": ["a"] }, { "type": "null" }] },
                "day": { "type": "string" },
                "note": { "type": "string" },
            })
        );
        assert_eq!(answer_oddities(&schema), Vec::<String>::new());
        assert_eq!(oddities(&schema), ["/pace/anyOf[1]: null", "/word/anyOf[1]: null"]);
        let twice = json!({ "anyOf": [{ "type": "null" }, { "type": "null" }] });
        assert_eq!(answer_oddities(&twice), [": null"], "null alone is no figure");
        let list = json!({ "type": ["number", "null"] });
        assert_eq!(answer_oddities(&list), [": type is an array"]);
    }

    #[test]
    fn the_answers_of_the_slice_have_plain_schemas() {
        for schema in [
            answer::<RunView>(),
            answer::<RunPage>(),
            answer::<LogPage>(),
            answer::<Triggered>(),
            answer::<ProjectView>(),
        ] {
            let schema = Value::Object(schema);
            assert_eq!(oddities(&schema), Vec::<String>::new(), "{schema:#}");
            assert_eq!(schema["type"], "object");
            assert!(schema["properties"]["error"].is_object());
            assert_eq!(schema["anyOf"][1]["required"][0], "error");
        }
        let run = Value::Object(answer::<RunView>());
        let required = run["anyOf"][0]["required"].as_array().unwrap();
        assert!(required.contains(&json!("adw_id")) && !required.contains(&json!("pr_url")));
        assert_eq!(run["properties"]["status"]["enum"].as_array().unwrap().len(), 10);
    }
}
