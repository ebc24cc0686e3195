//! `adwd key`: who may call over HTTP.
//!
//! Through the daemon where one runs. Where none does the database is written directly, under the
//! state folder's lock: a daemon that serves a network does not start before there is a key, so
//! making the first one cannot need it.

use std::sync::Arc;

use serde_json::{Map, json};

use super::args::{CreateKey, Key};
use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use crate::auth::{
    Access, AccessDeps, AccessError, KeyList, KeyView, NewKey, Principal, ShownKey, own_uid,
};
use crate::client::{Client, ClientError};
use crate::clock::SystemClock;
use crate::daemon;
use crate::db::Db;
use crate::ids::OsRng;
use crate::lock::InstanceLock;
use crate::mcp::access::table::MadeKey;
use crate::out::{Cell2, Out, Tone, cell, toned};

/// Does it.
pub async fn command(cx: &Cx, given: Key) -> Result<u8, Fail> {
    let desk = Desk::open(cx).await?;
    match given {
        Key::Create(given) => {
            let made = desk.create(given).await?;
            show_new(&cx.out, &made.key, &made);
            if !made.not_served.is_empty() {
                let names = made.not_served.join(", ");
                cx.out.note(&format!("this daemon does not serve {names}: is the name right?"));
            }
        }
        Key::List => show_list(&cx.out, &desk.list().await?),
        Key::Revoke { id } => {
            let key = desk.revoke(&id).await?;
            if cx.out.is_json() {
                cx.out.json(&key);
            } else {
                cx.out.line(&format!("{} ({}) is revoked", key.id, key.name));
            }
        }
        Key::Rotate { id, grace } => {
            let key = desk.rotate(&id, grace).await?;
            show_new(&cx.out, &key, &key);
        }
    }
    Ok(exit::OK)
}

/// Where keys are kept, from here.
enum Desk {
    Daemon(Client),
    Own { access: Access, me: Principal, _lock: InstanceLock },
}

impl Desk {
    async fn open(cx: &Cx) -> Result<Desk, Fail> {
        match Client::connect(&cx.socket()).await {
            Ok(client) => Ok(Desk::Daemon(client)),
            Err(ClientError::Absent { .. }) => Desk::own(cx).await,
            Err(other) => Err(other.into()),
        }
    }

    async fn own(cx: &Cx) -> Result<Desk, Fail> {
        let config = cx.config();
        let state_dir = config.paths.state_dir.clone();
        daemon::private_folder(&state_dir).map_err(anyhow::Error::from)?;
        // A daemon that is just starting has it and answers in a moment.
        let lock = InstanceLock::acquire(&state_dir, std::process::id()).map_err(|error| {
            Fail::new(exit::NO_DAEMON, "held", error.to_string()).hint("ask again in a moment")
        })?;
        let db = Db::open(&config.paths.database_url).await.map_err(anyhow::Error::from)?;
        db.migrate(&SystemClock).await.map_err(anyhow::Error::from)?;
        let access = Access::open(AccessDeps {
            db,
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            state_dir,
            config: config.access.clone(),
        });
        Ok(Desk::Own { access: access.await?, me: Principal::unix(own_uid()), _lock: lock })
    }

    async fn create(&self, given: CreateKey) -> Result<MadeKey, Fail> {
        match self {
            Desk::Daemon(client) => {
                let asked = arguments(vec![
                    ("tier", Some(json!(given.tier))),
                    ("name", Some(json!(given.name))),
                    ("projects", Some(json!(given.project)).filter(|_| !given.project.is_empty())),
                    ("expires", given.expires.map(|when| json!(when))),
                    ("hourly", given.hourly.map(|n| json!(n))),
                    ("day_budget_usd", given.day_budget.map(|usd| json!(usd))),
                ]);
                Ok(client.call("create_access_key", asked).await?)
            }
            Desk::Own { access, me, .. } => {
                let asked = NewKey {
                    tier: given.tier,
                    name: given.name,
                    projects: given.project,
                    expires: given.expires,
                    hourly: given.hourly,
                    day_budget_usd: given.day_budget,
                };
                Ok(MadeKey { key: access.create(me, &asked).await?, not_served: Vec::new() })
            }
        }
    }

    async fn list(&self) -> Result<KeyList, Fail> {
        match self {
            Desk::Daemon(client) => Ok(client.call("list_access_keys", Map::new()).await?),
            Desk::Own { access, me, .. } => Ok(access.list(me).await?),
        }
    }

    async fn revoke(&self, id: &str) -> Result<KeyView, Fail> {
        match self {
            Desk::Daemon(client) => {
                let asked = arguments(vec![("id", Some(json!(id)))]);
                Ok(client.call("revoke_access_key", asked).await?)
            }
            Desk::Own { access, me, .. } => Ok(access.revoke(me, id).await?),
        }
    }

    async fn rotate(&self, id: &str, grace: Option<String>) -> Result<ShownKey, Fail> {
        match self {
            Desk::Daemon(client) => {
                let grace = grace.map(|grace| json!(grace));
                let asked = arguments(vec![("id", Some(json!(id))), ("grace", grace)]);
                Ok(client.call("rotate_access_key", asked).await?)
            }
            Desk::Own { access, me, .. } => Ok(access.rotate(me, id, grace.as_deref()).await?),
        }
    }
}

impl From<AccessError> for Fail {
    fn from(error: AccessError) -> Fail {
        let exit = match &error {
            AccessError::Invalid { .. } => exit::USAGE,
            AccessError::UnknownKey { .. } => exit::NOT_FOUND,
            AccessError::Pepper | AccessError::Io { .. } | AccessError::Db(_) => exit::FAILED,
            _ => exit::REFUSED,
        };
        let fail = Fail::new(exit, error.code(), error.to_string());
        match error {
            AccessError::UnknownKey { .. } => fail.hint("`adwd key list` shows the ids"),
            _ => fail,
        }
    }
}

/// The key alone on standard output, so that it can be put where it belongs; all else beside it.
fn show_new(out: &Out, key: &ShownKey, all: &impl serde::Serialize) {
    if out.is_json() {
        out.json(all);
        return;
    }
    let facts = &key.facts;
    out.note(&format!("key {} ({}), tier {}", facts.id, facts.name, facts.tier));
    if let Some(projects) = &facts.projects {
        out.note(&format!("bound to {}", projects.join(", ")));
    }
    if let Some(at) = &facts.expires_at {
        out.note(&format!("ends at {at}"));
    }
    if let Some(at) = &facts.old_secret_until {
        out.note(&format!("the key before is good too until {at}"));
    }
    out.note("It is shown this once and stored nowhere: put it where it is needed now.");
    out.line(&key.key);
}

fn show_list(out: &Out, list: &KeyList) {
    if out.is_json() {
        out.json(list);
        return;
    }
    if list.keys.is_empty() && out.is_terminal() {
        out.line("no keys; `adwd key create` makes one");
        return;
    }
    let rows: Vec<Vec<Cell2>> = list.keys.iter().map(row).collect();
    out.table(&["ID", "NAME", "TIER", "STATE", "PROJECTS", "ENDS", "LAST USED", "MADE BY"], &rows);
}

fn row(key: &KeyView) -> Vec<Cell2> {
    let tone = match key.state.as_str() {
        "good" => Tone::Good,
        "expired" => Tone::Dim,
        _ => Tone::Bad,
    };
    vec![
        cell(&key.id),
        cell(&key.name),
        cell(&key.tier),
        toned(&key.state, tone),
        cell(key.projects.as_ref().map_or_else(|| "all".to_owned(), |names| names.join(","))),
        cell(key.expires_at.as_deref().unwrap_or("never")),
        cell(key.last_used_at.as_deref().unwrap_or("never")),
        cell(&key.created_by),
    ]
}
