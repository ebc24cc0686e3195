//! What a step submits, out of either dialect (`spec/steps.md` §3.3). Pure.
//!
//! Lenient, because agents fill it in as their personas say, and complete: only a summary that says
//! something is required, and what is not understood is kept under `extra` with a warning, never
//! dropped. Strict where storing would be wrong: an artifact without content, and sizes.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::error::{StepsError, clipped};
use super::view::{ArtifactIn, Output};
use crate::limits::{
    STEPS_ARTIFACT_BYTES, STEPS_ARTIFACTS_COUNT, STEPS_FOCUS_CHARS, STEPS_FOCUS_COUNT,
    STEPS_OUTPUT_BYTES,
};

/// The longest type of an artifact.
const TYPE_MAX_CHARS: usize = 64;
/// Where a reference that is an object names its file.
const REFERENCE_KEYS: [&str; 6] = ["path", "file", "url", "uri", "title", "name"];

/// Reads a submission of either dialect.
///
/// # Errors
/// [`StepsError::Invalid`] with the path of the value, such as `output.artifacts[2].content`;
/// [`StepsError::TooLarge`].
pub fn normalise(value: &Value) -> Result<Output, StepsError> {
    let Value::Object(given) = value else {
        return Err(invalid("output", value, "an object with at least a summary"));
    };
    too_large("output", json_bytes(value), STEPS_OUTPUT_BYTES)?;
    let mut output = Output::default();
    for (key, value) in given {
        take(&mut output, key, value)?;
    }
    if output.summary.trim().is_empty() {
        let given = given.get("summary").unwrap_or(&Value::Null);
        return Err(invalid("output.summary", given, "text that says what was done"));
    }
    for (key, missing) in
        [("references", output.references.is_empty()), ("confidence", output.confidence.is_none())]
    {
        if missing && !given.contains_key(key) {
            output.warnings.push(format!("output.{key} is missing; it is asked for"));
        }
    }
    check(&output)?;
    Ok(output)
}

/// Checks the bounds of an output, however it was made.
///
/// # Errors
/// [`StepsError::Invalid`], [`StepsError::TooLarge`].
pub fn check(output: &Output) -> Result<(), StepsError> {
    if output.summary.trim().is_empty() {
        let given = Value::from(output.summary.as_str());
        return Err(invalid("output.summary", &given, "text that says what was done"));
    }
    let count = output.artifacts.len() + output.artifact_refs.len();
    if count > STEPS_ARTIFACTS_COUNT {
        let expected = format!("at most {STEPS_ARTIFACTS_COUNT} artifacts a step");
        return Err(invalid("output.artifacts", &Value::from(count), &expected));
    }
    for (index, artifact) in output.artifacts.iter().enumerate() {
        let path = format!("output.artifacts[{index}].content");
        too_large(&path, artifact.content.len(), STEPS_ARTIFACT_BYTES)?;
    }
    too_large("output", json_bytes(output), STEPS_OUTPUT_BYTES)
}

fn take(output: &mut Output, key: &str, value: &Value) -> Result<(), StepsError> {
    match (key, value) {
        // An absent field and one that is null are the same to every agent.
        (
            "summary"
            | "artifacts"
            | "references"
            | "confidence"
            | "decisions"
            | "findings"
            | "next_steps"
            | "next_step_recommendation"
            | "blockers"
            | "metadata",
            Value::Null,
        ) => {}
        ("summary", Value::String(text)) => output.summary.clone_from(text),
        ("summary", other) => {
            return Err(invalid("output.summary", other, "text that says what was done"));
        }
        ("artifacts", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("output.artifacts[{index}]");
                match item {
                    Value::String(id) if !id.trim().is_empty() => {
                        output.artifact_refs.push(id.clone());
                    }
                    Value::Object(given) => {
                        let artifact = artifact(&path, given, &mut output.warnings)?;
                        output.artifacts.push(artifact);
                    }
                    other => {
                        let expected = "an object with type, title and content, or an id as text";
                        return Err(invalid(&path, other, expected));
                    }
                }
            }
        }
        ("artifacts", other) => {
            return Err(invalid("output.artifacts", other, "a list of artifacts"));
        }
        ("references", given) => references(output, given),
        // Models quote numbers now and then, and what is meant is not in doubt.
        ("confidence", given) if in_unit(given).is_some() => output.confidence = in_unit(given),
        ("decisions", given) => output.decisions = list(given),
        ("findings", given) => output.findings = list(given),
        ("blockers", given) => output.blockers = list(given),
        ("next_steps" | "next_step_recommendation", given) if output.next_steps.is_none() => {
            output.next_steps = Some(given.clone());
        }
        ("metadata", given) => output.metadata = Some(given.clone()),
        (other, given) => {
            if other == "confidence" {
                let text = "output.confidence is not a number from 0 to 1; it was kept as it is";
                output.warnings.push(text.to_owned());
            }
            output.extra.insert(other.to_owned(), given.clone());
        }
    }
    Ok(())
}

fn in_unit(given: &Value) -> Option<f64> {
    let number = given.as_f64().or_else(|| given.as_str()?.trim().parse().ok());
    number.filter(|n| (0.0..=1.0).contains(n))
}

/// A list as it is; one thing as a list of one.
fn list(given: &Value) -> Vec<Value> {
    match given {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    }
}

/// Texts are references; of an object the text that names its file is, and the whole list is kept
/// beside it.
fn references(output: &mut Output, given: &Value) {
    let items = list(given);
    let name = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => {
            REFERENCE_KEYS.iter().find_map(|key| fields.get(*key)?.as_str()).map(str::to_owned)
        }
        _ => None,
    };
    output.references = items.iter().filter_map(name).collect();
    if !items.iter().all(Value::is_string) {
        output.extra.insert("references".to_owned(), given.clone());
    }
}

fn artifact(
    path: &str,
    given: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<ArtifactIn, StepsError> {
    let mut rest = given.clone();
    let mut first = |keys: [&str; 2]| {
        let key = keys.into_iter().find(|key| rest.get(*key).is_some_and(|v| !v.is_null()))?;
        rest.shift_remove(key)
    };
    let kind = first(["type", "artifact_type"]);
    let title = first(["title", "name"]);
    let mime = first(["content_type", "mime_type"]);
    let content = first(["content", "content"]);
    let description = first(["description", "description"]);
    let metadata = first(["metadata", "metadata"]);
    let mut extra = rest;
    let (content, structured) = match content {
        Some(Value::String(text)) if !text.trim().is_empty() => (text, false),
        Some(Value::String(_)) | None => {
            let given = given.get("content").unwrap_or(&Value::Null);
            let expected =
                "text that is not blank (an artifact that exists is named by its id alone)";
            return Err(invalid(&format!("{path}.content"), given, expected));
        }
        Some(other) => (format!("{other:#}"), true),
    };
    let content = storable(content, path, warnings);
    let artifact_type = artifact_type(kind, path, &mut extra, warnings);
    let title = match title {
        Some(Value::String(text)) if !text.trim().is_empty() => text,
        other => {
            warnings.push(format!("{path}.title is missing; its type stands for it"));
            extra.extend(other.map(|value| ("title".to_owned(), value)));
            artifact_type.clone()
        }
    };
    let text = |value: Option<Value>, key: &str, extra: &mut Map<String, Value>| match value {
        Some(Value::String(text)) => Some(text),
        other => {
            extra.extend(other.map(|value| (key.to_owned(), value)));
            None
        }
    };
    let description = text(description, "description", &mut extra);
    let content_type = text(mime, "content_type", &mut extra)
        .unwrap_or_else(|| mime_of(&artifact_type, structured).to_owned());
    Ok(ArtifactIn { artifact_type, title, content, description, content_type, metadata, extra })
}

/// The content without NUL, which no database stores as text: its size and hash are those of what
/// is stored.
fn storable(content: String, path: &str, warnings: &mut Vec<String>) -> String {
    if !content.contains('\0') {
        return content;
    }
    warnings.push(format!("{path}.content has NUL characters; U+FFFD stands for each"));
    content.replace('\0', "\u{fffd}")
}

/// The type as `[a-z0-9_]{1,64}`; one of another form is kept beside the one made of it.
fn artifact_type(
    given: Option<Value>,
    path: &str,
    extra: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) -> String {
    let Some(given) = given else {
        warnings.push(format!("{path}.type is missing; it counts as markdown"));
        return "markdown".to_owned();
    };
    let text = given.as_str().unwrap_or_default();
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    let slug: String = text.trim().chars().take(TYPE_MAX_CHARS).map(plain).collect();
    let slug = if slug.trim_matches('_').is_empty() { "markdown".to_owned() } else { slug };
    if given != slug.as_str() {
        warnings.push(format!("{path}.type {} counts as {slug}", shown(&given)));
        extra.insert("type".to_owned(), given);
    }
    slug
}

fn mime_of(artifact_type: &str, structured: bool) -> &'static str {
    match artifact_type {
        _ if structured => "application/json",
        "json" => "application/json",
        "yaml" => "application/yaml",
        "file" | "code" => "text/plain",
        _ => "text/markdown",
    }
}

/// What a type is in seed 003's words (`spec/steps.md` §3.3).
#[must_use]
pub fn kind(artifact_type: &str) -> &'static str {
    match artifact_type {
        "data_model" | "json" | "yaml" | "data" => "data",
        "diagram" | "file" => "file",
        "finding" => "finding",
        _ => "report",
    }
}

/// What the submission hands on to the steps after it: the paths it refers to.
#[must_use]
pub fn focus(output: &Output) -> Vec<String> {
    let is_path = |text: &&String| !text.trim().is_empty() && text.len() <= STEPS_FOCUS_CHARS;
    output.references.iter().filter(is_path).take(STEPS_FOCUS_COUNT).cloned().collect()
}

/// SHA-256 of an output in one spelling: the order of an object's keys does not count, nor do the
/// warnings. Two submissions with one digest are the same submission.
#[must_use]
pub fn digest(output: &Output) -> String {
    let mut value = serde_json::to_value(output).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.remove("warnings");
    }
    let mut text = Vec::new();
    canonical(&value, &mut text);
    sha256(&text)
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push(b'{');
            for key in keys {
                out.extend(Value::from(key.as_str()).to_string().into_bytes());
                out.push(b':');
                canonical(&fields[key], out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        // A number has one spelling in memory already.
        plain => out.extend(plain.to_string().into_bytes()),
    }
}

/// How long the value is as JSON, without making it.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting does not fail; what cannot be written as JSON would not have been read as such.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

fn too_large(what: &str, bytes: usize, max: usize) -> Result<(), StepsError> {
    if bytes <= max {
        return Ok(());
    }
    Err(StepsError::TooLarge { what: what.to_owned(), bytes: bytes as u64, max: max as u64 })
}

fn invalid(field: &str, given: &Value, expected: &str) -> StepsError {
    let given = match given {
        Value::Null => "nothing".to_owned(),
        other => shown(other),
    };
    StepsError::Invalid { field: field.to_owned(), given, expected: expected.to_owned() }
}

fn shown(value: &Value) -> String {
    clipped(&value.to_string())
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
