//! Resources of every family: the list, the templates, and what is at an address.

use std::borrow::Cow;

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource,
    ResourceContents,
};
use serde::Serialize;
use serde_json::Value;

use super::address::Address;
use super::args::clip;
use super::bounds::{LIVE_TTL_MS, STATIC_TTL_MS};
use super::error::{pretty, resource_not_found};
use super::health;
use super::runs::resources as runs;
use super::server::AdwServer;
use super::steps::resources as steps;
use super::writing::resources as writing;
use crate::auth::Action;
use crate::config::Toolset;

/// Mime type of structured data.
pub const JSON: &str = "application/json";
/// Mime type of logs.
pub const TEXT: &str = "text/plain";
/// Mime type of personas and rules.
pub const MARKDOWN: &str = "text/markdown";

/// What was read.
pub struct Reading {
    /// The content.
    pub text: String,
    /// Its mime type.
    pub mime: Cow<'static, str>,
    /// How long a client may keep it, in ms.
    pub ttl_ms: u64,
}

impl Reading {
    /// Structured data that changes while work goes on.
    pub fn live(value: &impl Serialize) -> Reading {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        Reading { text: pretty(&value), mime: JSON.into(), ttl_ms: LIVE_TTL_MS }
    }
}

/// The list. Clients read the whole of it at every connect and again after every `list_changed`,
/// so it is short: what is new and open; the rest is reached through templates.
pub async fn list(server: &AdwServer) -> Result<ListResourcesResult, ErrorData> {
    let mut listed = Vec::new();
    if server.shown().lists(Toolset::Adw) {
        listed.extend(runs::list(server.runs()).await?);
        listed.extend(health::list(server));
    }
    if server.shown().lists(Toolset::Steps) {
        let workflows = steps::list(server.steps()).await;
        listed.extend(workflows.map_err(|error| steps::protocol(&error))?);
    }
    if server.shown().lists(Toolset::Writing) {
        listed.extend(writing::list(server.writing()).await?);
    }
    Ok(ListResourcesResult::with_all_items(listed)
        .with_ttl_ms(LIVE_TTL_MS)
        .with_cache_scope(CacheScope::Private))
}

/// What is listed, to know whether the list is another.
pub async fn listed(server: &AdwServer) -> Result<Vec<Resource>, ErrorData> {
    Ok(list(server).await?.resources)
}

/// The templates.
#[must_use]
pub fn templates(server: &AdwServer) -> ListResourceTemplatesResult {
    let all = [
        (Toolset::Adw, runs::templates()),
        (Toolset::Steps, steps::templates()),
        (Toolset::Writing, writing::templates()),
    ];
    let listed = all.into_iter().filter(|(set, _)| server.shown().lists(*set));
    ListResourceTemplatesResult::with_all_items(listed.flat_map(|(_, list)| list).collect())
        .with_ttl_ms(STATIC_TTL_MS)
        .with_cache_scope(CacheScope::Private)
}

/// What is at an address. A connection's choice keeps lists short and nothing else: who knows an
/// address may read there.
pub async fn read(server: &AdwServer, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let address = Address::parse(uri)
        .map_err(|why| resource_not_found(uri, &format!("{:?}: {why}", clip(uri))))?;
    if !server.shown().exists(address.toolset()) {
        // The same for every address of such a family, whatever is there for others.
        let why = format!("{:?}: nothing is there for a caller bound to projects", clip(uri));
        return Err(resource_not_found(uri, &why));
    }
    let reading = match &address {
        Address::Run(address) => runs::read(server.runs(), uri, address).await?,
        Address::Step(address) => {
            let may_steer = server.principal().allows(Action::Steer);
            steps::read(server.steps(), server.runs(), uri, address, may_steer).await?
        }
        Address::Writing(address) => {
            writing::read(server.writing(), server.clock(), uri, address).await?
        }
        Address::Health => health::read(server).await?,
    };
    // The address as it was asked for: clients match the answer by it.
    let contents = ResourceContents::text(reading.text, uri).with_mime_type(reading.mime);
    Ok(ReadResourceResult::new(vec![contents])
        .with_ttl_ms(reading.ttl_ms)
        .with_cache_scope(CacheScope::Private))
}
