//! Resources of every family: the list, the templates, and what is at an address.

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult,
    ResourceContents,
};
use serde::Serialize;
use serde_json::Value;

use super::address::Address;
use super::args::clip;
use super::bounds::{LIVE_TTL_MS, STATIC_TTL_MS};
use super::error::{pretty, resource_not_found};
use super::runs::resources as runs;
use super::server::AdwServer;
use super::writing::resources as writing;

/// Mime type of structured data.
pub const JSON: &str = "application/json";
/// Mime type of logs.
pub const TEXT: &str = "text/plain";

/// What was read.
pub struct Reading {
    /// The content.
    pub text: String,
    /// Its mime type.
    pub mime: &'static str,
    /// How long a client may keep it, in ms.
    pub ttl_ms: u64,
}

impl Reading {
    /// Structured data that changes while work goes on.
    pub fn live(value: &impl Serialize) -> Reading {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        Reading { text: pretty(&value), mime: JSON, ttl_ms: LIVE_TTL_MS }
    }
}

/// The list. Clients read the whole of it at every connect and again after every `list_changed`,
/// so it is short: what is new and open; the rest is reached through templates.
pub async fn list(server: &AdwServer) -> Result<ListResourcesResult, ErrorData> {
    let mut listed = runs::list(server.runs()).await?;
    listed.extend(writing::list(server.writing()).await?);
    Ok(ListResourcesResult::with_all_items(listed)
        .with_ttl_ms(LIVE_TTL_MS)
        .with_cache_scope(CacheScope::Private))
}

/// The listed addresses, to know whether the list is another.
pub async fn listed(server: &AdwServer) -> Result<Vec<String>, ErrorData> {
    Ok(list(server).await?.resources.into_iter().map(|resource| resource.uri.clone()).collect())
}

/// The templates.
#[must_use]
pub fn templates() -> ListResourceTemplatesResult {
    let templates = [runs::templates(), writing::templates()].concat();
    ListResourceTemplatesResult::with_all_items(templates)
        .with_ttl_ms(STATIC_TTL_MS)
        .with_cache_scope(CacheScope::Private)
}

/// What is at an address.
pub async fn read(server: &AdwServer, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let Some(address) = Address::parse(uri) else {
        let why = format!(
            "{:?} is no address of this server; resources/list and resources/templates/list show \
             those that are",
            clip(uri)
        );
        return Err(resource_not_found(uri, &why));
    };
    let reading = match &address {
        Address::Run(address) => runs::read(server.runs(), uri, address).await?,
        Address::Writing(address) => {
            writing::read(server.writing(), server.clock(), uri, address).await?
        }
    };
    // The address as it was asked for: clients match the answer by it.
    let contents = ResourceContents::text(reading.text, uri).with_mime_type(reading.mime);
    Ok(ReadResourceResult::new(vec![contents])
        .with_ttl_ms(reading.ttl_ms)
        .with_cache_scope(CacheScope::Private))
}
