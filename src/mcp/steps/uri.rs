//! Addresses of what step workflows have to read, in the spellings of both seeds. Pure.
//!
//! The canonical spelling is seed 003's `midex://…`. Seed 001's (`current_step://ID` …) are taken as
//! they are written there, by their prefix: five of their schemes have an underscore, which no URL
//! parser accepts, so each has a legal twin with a hyphen as well (`spec/steps.md` §2.3). A segment
//! is percent-decoded once.

use std::fmt::{self, Write as _};

use crate::changes::Changed;
use crate::ids::ExecutionId;
use crate::limits::STEPS_PAGE_COUNT;
use crate::steps::{ArtifactFilter, EventFilter, ExecutionFilter, ExecutionState};

/// The longest address that is looked at.
const ADDRESS_MAX_BYTES: usize = 4_096;
/// The longest name in an address, in characters after decoding.
const NAME_MAX_CHARS: usize = 200;
/// The greatest `limit`.
const LIMIT_MAX: u32 = STEPS_PAGE_COUNT;

/// How an address is written; it decides the shape of what is read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `midex://…`: the shapes of seed 003.
    Canonical,
    /// `current_step://…`, `persona://…`: the shapes of seed 001.
    Seed,
    /// `current-step://…`: the same shapes under a legal scheme.
    Hyphen,
}

/// Which execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest one that has not ended, of this project or of any.
    Active(Option<String>),
    /// That one.
    Id(String),
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// All workflows.
    Workflows,
    /// One workflow.
    Workflow(String),
    /// A list of executions.
    Executions(ExecutionFilter),
    /// What an execution waits for: persona, token, instructions.
    CurrentStep(Which),
    /// Where an execution stands.
    Status(Which),
    /// What its steps did.
    History(String),
    /// A list of artifacts.
    Artifacts(ArtifactFilter),
    /// One artifact's content.
    Artifact(String),
    /// Telemetry.
    Telemetry(EventFilter),
    /// An agent's persona; the supervisor's where none is named.
    Persona(Option<String>),
    /// The rules that count: always, or for the steps that an execution has out.
    Guardrails(Option<String>),
    /// A project and the newest execution in it.
    Project(String),
}

/// An address. Printing and parsing are each other's inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUri {
    /// How it is written.
    pub spelling: Spelling,
    /// What is there.
    pub place: Place,
}

/// Seed 001's schemes, with their legal twins where they need one.
const SCHEMES: [(&str, Option<&str>); 7] = [
    ("persona", None),
    ("guardrails", None),
    ("current_step", Some("current-step")),
    ("workflow_status", Some("workflow-status")),
    ("project_context", Some("project-context")),
    ("available_workflows", Some("available-workflows")),
    ("workflow_artifacts", Some("workflow-artifacts")),
];

const CANONICAL: &str = "midex://";

impl StepUri {
    /// Reads an address. `None` where it is not one of this family at all.
    ///
    /// # Errors
    /// What is wrong with one that begins like ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<StepUri, String>> {
        let (scheme, rest) = text.split_once("://")?;
        if scheme == "midex" {
            return Some(bounded(text).and_then(|()| {
                Ok(StepUri { spelling: Spelling::Canonical, place: canonical(rest)? })
            }));
        }
        let (seed, spelling) = SCHEMES.iter().find_map(|(seed, twin)| match scheme {
            _ if scheme == *seed => Some((*seed, Spelling::Seed)),
            _ if Some(scheme) == *twin => Some((*seed, Spelling::Hyphen)),
            _ => None,
        })?;
        let place = bounded(text).and_then(|()| aliased(seed, rest));
        Some(place.map(|place| StepUri { spelling, place }))
    }

    /// The canonical address of a place.
    #[must_use]
    pub fn of(place: Place) -> StepUri {
        StepUri { spelling: Spelling::Canonical, place }
    }

    /// Whether what is read here may be another after such a change.
    #[must_use]
    pub fn shows(&self, changed: &Changed) -> bool {
        match changed {
            Changed::Content => matches!(
                self.place,
                Place::Workflows | Place::Workflow(_) | Place::Persona(_) | Place::Guardrails(None)
            ),
            Changed::Execution(id) => self.shows_execution(id),
            _ => false,
        }
    }

    fn shows_execution(&self, id: &str) -> bool {
        match &self.place {
            Place::Workflows | Place::Workflow(_) | Place::Persona(_) | Place::Artifact(_) => false,
            Place::CurrentStep(which) | Place::Status(which) => match which {
                Which::Active(_) => true,
                Which::Id(own) => own == id,
            },
            Place::History(own) => own == id,
            Place::Guardrails(own) => own.as_deref() == Some(id),
            Place::Artifacts(ArtifactFilter { execution_id: own, .. })
            | Place::Telemetry(EventFilter { execution_id: own, .. }) => {
                own.as_deref().is_none_or(|own| own == id)
            }
            Place::Executions(_) | Place::Project(_) => true,
        }
    }
}

fn bounded(text: &str) -> Result<(), String> {
    if text.len() <= ADDRESS_MAX_BYTES {
        return Ok(());
    }
    Err(format!("an address has at most {ADDRESS_MAX_BYTES} bytes"))
}

/// What follows `midex://`.
fn canonical(rest: &str) -> Result<Place, String> {
    let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    let segments = path.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = Query::parse(query)?;
    match segments.as_slice() {
        ["workflow", rest @ ..] => workflow(rest, query),
        ["persona", name] => query.none(Place::Persona(agent(name)?)),
        ["guardrails", "active"] => query.none(Place::Guardrails(None)),
        ["guardrails", "execution", id] => query.none(Place::Guardrails(Some(execution(id)?))),
        ["project", id] => query.none(Place::Project(name(id)?)),
        _ => Err(NOTHING.to_owned()),
    }
}

const NOTHING: &str = "nothing of step workflows is there";

/// What follows `midex://workflow/`.
fn workflow(segments: &[&str], mut query: Query) -> Result<Place, String> {
    let place = match *segments {
        ["available_workflows"] => Place::Workflows,
        ["workflow_details", workflow] => Place::Workflow(name(workflow)?),
        ["executions"] => Place::Executions(ExecutionFilter {
            state: query.state()?,
            project: query.name("project")?,
            workflow: query.name("workflow")?,
            open_only: query.flag("open")?.unwrap_or(false),
            limit: query.limit()?,
        }),
        ["current_step", id] => Place::CurrentStep(which(id, &mut query)?),
        ["workflow_status", id] => Place::Status(which(id, &mut query)?),
        ["step_history", id] => Place::History(execution(id)?),
        ["workflow_artifacts", id] => Place::Artifacts(ArtifactFilter {
            execution_id: Some(execution(id)?),
            is_final: query.flag("final")?,
            limit: query.limit()?,
            ..ArtifactFilter::default()
        }),
        ["workflow_artifacts", id, step] => Place::Artifacts(ArtifactFilter {
            execution_id: Some(execution(id)?),
            step_name: Some(name(step)?),
            limit: query.limit()?,
            ..ArtifactFilter::default()
        }),
        ["artifacts", ref rest @ ..] => Place::Artifacts(listed_artifacts(rest, &mut query)?),
        ["artifact", id] => Place::Artifact(name(id)?),
        ["telemetry"] => Place::Telemetry(events(None, &mut query)?),
        ["telemetry", id] => Place::Telemetry(events(Some(execution(id)?), &mut query)?),
        _ => return Err(NOTHING.to_owned()),
    };
    query.none(place)
}

/// `recent`, `final`, `type/{type}`: what both spellings have in common.
fn listed_artifacts(segments: &[&str], query: &mut Query) -> Result<ArtifactFilter, String> {
    let limit = query.limit()?;
    let filter = ArtifactFilter { limit, ..ArtifactFilter::default() };
    match *segments {
        ["recent"] => Ok(filter),
        ["final"] => Ok(ArtifactFilter { is_final: Some(true), ..filter }),
        ["type", kind] => {
            Ok(ArtifactFilter { artifact_type: Some(artifact_type(kind)?), ..filter })
        }
        _ => Err("lists of artifacts are recent, final and type/{type}".to_owned()),
    }
}

fn events(execution_id: Option<String>, query: &mut Query) -> Result<EventFilter, String> {
    Ok(EventFilter { execution_id, event_type: query.name("event_type")?, limit: query.limit()? })
}

/// What follows one of seed 001's schemes. Some clients end an address without a path with a slash.
fn aliased(scheme: &str, rest: &str) -> Result<Place, String> {
    let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    let mut query = Query::parse(query)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments = path.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let place = match (scheme, segments.as_slice()) {
        ("persona", [name]) => Place::Persona(agent(name)?),
        ("guardrails", ["active"]) => Place::Guardrails(None),
        ("current_step", [id]) => Place::CurrentStep(which(id, &mut query)?),
        ("workflow_status", [id]) => Place::Status(which(id, &mut query)?),
        ("project_context", [id]) => Place::Project(name(id)?),
        ("available_workflows", ["all"]) => Place::Workflows,
        ("workflow_artifacts", ["final", id]) => Place::Artifacts(ArtifactFilter {
            execution_id: Some(execution(id)?),
            is_final: Some(true),
            limit: query.limit()?,
            ..ArtifactFilter::default()
        }),
        ("workflow_artifacts", ["recent" | "final"] | ["type", _]) => {
            Place::Artifacts(listed_artifacts(&segments, &mut query)?)
        }
        ("workflow_artifacts", [id]) => Place::Artifacts(ArtifactFilter {
            execution_id: Some(execution(id)?),
            is_final: query.flag("final")?,
            limit: query.limit()?,
            ..ArtifactFilter::default()
        }),
        _ => return Err(NOTHING.to_owned()),
    };
    query.none(place)
}

/// The query of an address, taken apart key by key; what is left over is refused.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: Option<&str>) -> Result<Query, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.into_iter().flat_map(|text| text.split('&')).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(format!("{key:?} stands twice in the query"));
            }
            pairs.push((key, value));
        }
        Ok(Query(pairs))
    }

    /// A value; an empty one counts as absent, since clients expand templates so.
    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    fn limit(&mut self) -> Result<Option<u32>, String> {
        let Some(text) = self.take("limit") else { return Ok(None) };
        let limit = text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
        limit.map(Some).ok_or_else(|| format!("limit is a whole number from 1 to {LIMIT_MAX}"))
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(format!("{key} is true or false")),
        }
    }

    fn name(&mut self, key: &str) -> Result<Option<String>, String> {
        self.take(key).map(|text| name(&text)).transpose()
    }

    fn state(&mut self) -> Result<Option<ExecutionState>, String> {
        let Some(word) = self.take("state") else { return Ok(None) };
        let state = serde_json::from_value(serde_json::Value::String(word));
        state.map(Some).map_err(|_| {
            "state is idle, running, paused, completed, failed, abandoned or diverged".to_owned()
        })
    }

    /// The place, if nothing of the query is left.
    fn none(self, place: Place) -> Result<Place, String> {
        match self.0.first() {
            None => Ok(place),
            Some((key, _)) => Err(format!("it takes no {key:?} in its query")),
        }
    }
}

fn which(id: &str, query: &mut Query) -> Result<Which, String> {
    match id {
        "" | "active" => Ok(Which::Active(query.name("project")?)),
        id => execution(id).map(Which::Id),
    }
}

/// `default` and nothing mean the supervisor.
fn agent(text: &str) -> Result<Option<String>, String> {
    match text {
        "" | "default" => Ok(None),
        text => name(text).map(Some),
    }
}

fn name(text: &str) -> Result<String, String> {
    let chars = text.chars().count();
    if (1..=NAME_MAX_CHARS).contains(&chars) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("a name has 1 to {NAME_MAX_CHARS} characters, none of them a control character"))
}

fn execution(text: &str) -> Result<String, String> {
    ExecutionId::parse(text).map(String::from).map_err(|error| error.to_string())
}

fn artifact_type(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a type of artifacts has 1 to 64 small letters, digits or '_'".to_owned())
}

/// Percent-decodes, once.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "a percent sign is followed by two hexadecimal digits, as in %20".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let value = if byte == b'%' {
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
            u8::try_from(high * 16 + low).unwrap_or_default()
        } else {
            byte
        };
        bytes.push(value);
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 when decoded".to_owned())
}

/// Percent-encodes all but what RFC 3986 leaves unreserved.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// Writes `?a=b&c=d` of what is there.
fn write_query(f: &mut fmt::Formatter<'_>, pairs: &[(&str, Option<String>)]) -> fmt::Result {
    let given = pairs.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    for (at, (key, value)) in given.enumerate() {
        let sign = if at == 0 { '?' } else { '&' };
        write!(f, "{sign}{key}={}", Encoded(value))?;
    }
    Ok(())
}

impl fmt::Display for StepUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spelling {
            Spelling::Canonical => write_canonical(f, &self.place),
            spelling => write_aliased(f, &self.place, spelling),
        }
    }
}

fn write_canonical(f: &mut fmt::Formatter<'_>, place: &Place) -> fmt::Result {
    f.write_str(CANONICAL)?;
    match place {
        Place::Workflows => f.write_str("workflow/available_workflows"),
        Place::Workflow(name) => write!(f, "workflow/workflow_details/{}", Encoded(name)),
        Place::Executions(filter) => {
            f.write_str("workflow/executions")?;
            let state = filter.state.map(|state| format!("{state:?}").to_lowercase());
            write_query(
                f,
                &[
                    ("state", state),
                    ("project", filter.project.clone()),
                    ("workflow", filter.workflow.clone()),
                    ("open", filter.open_only.then(|| "true".to_owned())),
                    ("limit", filter.limit.map(|n| n.to_string())),
                ],
            )
        }
        Place::CurrentStep(which) => write_which(f, "workflow/current_step/", which),
        Place::Status(which) => write_which(f, "workflow/workflow_status/", which),
        Place::History(id) => write!(f, "workflow/step_history/{}", Encoded(id)),
        Place::Artifacts(filter) => {
            match (&filter.execution_id, &filter.step_name) {
                (Some(id), None) => write!(f, "workflow/workflow_artifacts/{}", Encoded(id))?,
                (Some(id), Some(step)) => {
                    write!(f, "workflow/workflow_artifacts/{}/{}", Encoded(id), Encoded(step))?;
                }
                (None, _) => write!(f, "workflow/artifacts/{}", Listed(filter))?,
            }
            write_artifact_query(f, filter)
        }
        Place::Artifact(id) => write!(f, "workflow/artifact/{}", Encoded(id)),
        Place::Telemetry(filter) => {
            f.write_str("workflow/telemetry")?;
            if let Some(id) = &filter.execution_id {
                write!(f, "/{}", Encoded(id))?;
            }
            let limit = filter.limit.map(|n| n.to_string());
            write_query(f, &[("event_type", filter.event_type.clone()), ("limit", limit)])
        }
        Place::Persona(agent) => write!(f, "persona/{}", Encoded(agent_word(agent))),
        Place::Guardrails(None) => f.write_str("guardrails/active"),
        Place::Guardrails(Some(id)) => write!(f, "guardrails/execution/{}", Encoded(id)),
        Place::Project(id) => write!(f, "project/{}", Encoded(id)),
    }
}

/// A place that seed 001 has no word for is written canonically.
fn write_aliased(f: &mut fmt::Formatter<'_>, place: &Place, spelling: Spelling) -> fmt::Result {
    let scheme = |name: &'static str| {
        let twin = SCHEMES.iter().find(|(seed, _)| *seed == name).and_then(|(_, twin)| *twin);
        if spelling == Spelling::Hyphen { twin.unwrap_or(name) } else { name }
    };
    match place {
        Place::Workflows => write!(f, "{}://all", scheme("available_workflows")),
        Place::CurrentStep(which) => {
            write_which(f, &format!("{}://", scheme("current_step")), which)
        }
        Place::Status(which) => write_which(f, &format!("{}://", scheme("workflow_status")), which),
        Place::Artifacts(filter) if filter.step_name.is_none() => {
            write!(f, "{}://", scheme("workflow_artifacts"))?;
            match (&filter.execution_id, filter.is_final) {
                (Some(id), _) => write!(f, "{}", Encoded(id))?,
                (None, _) => write!(f, "{}", Listed(filter))?,
            }
            write_artifact_query(f, filter)
        }
        Place::Persona(agent) => write!(f, "persona://{}", Encoded(agent_word(agent))),
        Place::Guardrails(None) => f.write_str("guardrails://active"),
        Place::Project(id) => write!(f, "{}://{}", scheme("project_context"), Encoded(id)),
        other => write_canonical(f, other),
    }
}

fn write_which(f: &mut fmt::Formatter<'_>, before: &str, which: &Which) -> fmt::Result {
    f.write_str(before)?;
    match which {
        Which::Id(id) => write!(f, "{}", Encoded(id)),
        Which::Active(project) => {
            f.write_str("active")?;
            write_query(f, &[("project", project.clone())])
        }
    }
}

fn agent_word(agent: &Option<String>) -> &str {
    agent.as_deref().unwrap_or("default")
}

/// `recent`, `final`, `type/{type}`.
struct Listed<'a>(&'a ArtifactFilter);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.artifact_type, self.0.is_final) {
            (Some(kind), _) => write!(f, "type/{}", Encoded(kind)),
            (None, Some(_)) => f.write_str("final"),
            (None, None) => f.write_str("recent"),
        }
    }
}

fn write_artifact_query(f: &mut fmt::Formatter<'_>, filter: &ArtifactFilter) -> fmt::Result {
    let flag = filter.execution_id.is_some().then_some(filter.is_final).flatten();
    let limit = filter.limit.map(|n| n.to_string());
    write_query(f, &[("final", flag.map(|is| is.to_string())), ("limit", limit)])
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
