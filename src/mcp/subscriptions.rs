//! Who wants to hear of changes, and at what pace they are told.
//!
//! A change is a hint: the notification says "read again" and carries nothing. So many changes
//! become one notification, and none is lost for good: what came too early is told when its time
//! has come.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::{Prompt, Resource, ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::SubscriptionSink;
use rmcp::{ErrorData, Peer, RoleServer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::address::{Address, may_change_list, may_change_prompts};
use super::bounds::{AUDIENCE_COUNT, LIST_CHANGED_GAP_MS, UPDATED_GAP_MS, WATCHED_COUNT};
use super::server::AdwServer;
use super::{prompts, resources};
use crate::changes::{Changed, Subscription};
use crate::ids::RunId;

/// What one client watches. The addresses are kept as the client wrote them: it knows a notice by
/// the very text it subscribed with.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    uris: Arc<Mutex<BTreeMap<String, Address>>>,
    list: bool,
    prompts: bool,
}

impl Watched {
    /// A client that hears of changes of the lists, and of resources it asks for later.
    #[must_use]
    pub fn list() -> Watched {
        Watched { list: true, prompts: true, ..Watched::default() }
    }

    /// What an accepted filter asks for.
    #[must_use]
    pub fn of(filter: &SubscriptionFilter) -> Watched {
        let uris = filter.resource_subscriptions.iter().flatten();
        Watched {
            uris: Arc::new(Mutex::new(
                uris.filter_map(|uri| Some((uri.clone(), Address::parse(uri).ok()?))).collect(),
            )),
            list: filter.resources_list_changed == Some(true),
            prompts: filter.prompts_list_changed == Some(true),
        }
    }

    /// Watches one more; false where it watches too many already. What is not ours never changes:
    /// promising to tell of it is an easy promise.
    #[must_use]
    pub fn add(&self, uri: &str) -> bool {
        let Ok(address) = Address::parse(uri) else { return true };
        let mut uris = self.uris();
        uris.len() < WATCHED_COUNT && {
            uris.insert(uri.to_owned(), address);
            true
        }
    }

    /// Watches one less.
    pub fn remove(&self, uri: &str) {
        self.uris().remove(uri);
    }

    /// The notices that a change may call for.
    fn touched(&self, changed: &Changed) -> Vec<Notice> {
        let uris = self.uris();
        let shown = uris.iter().filter(|(_, address)| address.shows(changed));
        let mut touched: Vec<Notice> = shown.map(|(uri, _)| Notice::Updated(uri.clone())).collect();
        if self.list && may_change_list(changed) {
            touched.push(Notice::List);
        }
        if self.prompts && may_change_prompts(changed) {
            touched.push(Notice::Prompts);
        }
        touched
    }

    fn uris(&self) -> MutexGuard<'_, BTreeMap<String, Address>> {
        // The set is whole after every statement, so a poisoned lock is as good as another.
        self.uris.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a requested filter that can be served.
#[must_use]
pub fn acceptable(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut accepted = SubscriptionFilter::new();
    accepted.resources_list_changed = requested.resources_list_changed;
    accepted.prompts_list_changed = requested.prompts_list_changed;
    accepted.resource_subscriptions = requested.resource_subscriptions.as_ref().map(|uris| {
        uris.iter().filter(|uri| Address::parse(uri).is_ok()).take(WATCHED_COUNT).cloned().collect()
    });
    accepted
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// A resource reads differently; its address as the client wrote it.
    Updated(String),
    /// The list of resources is another.
    List,
    /// The list of prompts is another.
    Prompts,
}

impl Notice {
    fn gap_ms(&self) -> i64 {
        match self {
            Notice::Updated(_) => UPDATED_GAP_MS,
            Notice::List | Notice::Prompts => LIST_CHANGED_GAP_MS,
        }
    }
}

/// When each notice was last told, and which are due. Pure: time is handed in.
#[derive(Debug, Default)]
struct Pace {
    due: BTreeMap<Notice, i64>,
    told: BTreeMap<Notice, i64>,
}

impl Pace {
    /// A change was heard: due at once, or a gap after the last time it was told.
    fn mark(&mut self, notice: Notice, now_ms: i64) {
        let earliest = self.told.get(&notice).map_or(now_ms, |told| told + notice.gap_ms());
        self.due.entry(notice).or_insert(earliest.max(now_ms));
    }

    /// Takes what is due.
    fn take(&mut self, now_ms: i64) -> Vec<Notice> {
        // What was told a gap ago paces nothing any more; the map stays as small as the bursts.
        self.told.retain(|notice, told| now_ms < *told + notice.gap_ms());
        let (ready, later) =
            std::mem::take(&mut self.due).into_iter().partition(|(_, at)| *at <= now_ms);
        self.due = later;
        let ready: BTreeMap<Notice, i64> = ready;
        for notice in ready.keys() {
            self.told.insert(notice.clone(), now_ms);
        }
        ready.into_keys().collect()
    }

    /// When the next one is due.
    fn next_ms(&self) -> Option<i64> {
        self.due.values().min().copied()
    }
}

/// Where notices go; false where nobody is there any more.
pub trait Sink: Send + Sync {
    /// Tells that a resource reads differently.
    fn updated(&self, uri: String) -> impl Future<Output = bool> + Send;
    /// Tells that the list of resources is another.
    fn list_changed(&self) -> impl Future<Output = bool> + Send;
    /// Tells that the list of prompts is another.
    fn prompts_changed(&self) -> impl Future<Output = bool> + Send;
}

impl Sink for SubscriptionSink {
    async fn updated(&self, uri: String) -> bool {
        self.notify_resource_updated(uri).await.is_ok()
    }

    async fn list_changed(&self) -> bool {
        self.notify_resource_list_changed().await.is_ok()
    }

    async fn prompts_changed(&self) -> bool {
        self.notify_prompt_list_changed().await.is_ok()
    }
}

impl Sink for Peer<RoleServer> {
    async fn updated(&self, uri: String) -> bool {
        self.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await.is_ok()
    }

    async fn list_changed(&self) -> bool {
        self.notify_resource_list_changed().await.is_ok()
    }

    async fn prompts_changed(&self) -> bool {
        self.notify_prompt_list_changed().await.is_ok()
    }
}

/// Tells a client of changes until `stop`, or until it is gone. `changes` is listened to from before
/// the client could have read anything: what changed since then, it hears of.
pub async fn pump(
    server: &AdwServer,
    watched: &Watched,
    mut changes: Subscription,
    sink: &impl Sink,
    stop: &CancellationToken,
) {
    let start = Instant::now();
    let now_ms = || i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    let mut known = Known::look(server, watched).await;
    let mut pace = Pace::default();
    let mut audience = Audience::default();
    while let Some(changed) = changes.next_of_now() {
        // It may be in the lists just looked at, and not in those that the client has.
        if audience.may_see(server, &changed).await {
            known = Known::default();
        }
        audience.mark(server, watched, &changed, (&mut pace, now_ms())).await;
    }
    loop {
        for notice in pace.take(now_ms()) {
            if !tell(server, sink, notice, &mut known).await {
                return;
            }
        }
        let wake = pace.next_ms();
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep(wait_ms(at - now_ms())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.next() => match changed {
                Some(changed) => {
                    audience.mark(server, watched, &changed, (&mut pace, now_ms())).await;
                }
                // The slice is gone: nothing will change any more.
                None => return stop.cancelled().await,
            },
            () = sleep => {}
        }
    }
}

/// Which runs exist for a caller that is bound to projects, as far as changes asked after them. A
/// run never moves to another project.
#[derive(Debug, Default)]
struct Audience {
    known: BTreeMap<RunId, bool>,
}

impl Audience {
    /// Whether a list of the caller's may be another by this.
    async fn may_see(&mut self, server: &AdwServer, changed: &Changed) -> bool {
        match changed {
            _ if server.principal().scope.bound_to().is_none() => true,
            Changed::Run(id) => self.knows(server, id).await,
            changed => *changed == Changed::Lagged,
        }
    }

    /// Has told, when it is time, what of a change the caller may learn.
    async fn mark(
        &mut self,
        server: &AdwServer,
        watched: &Watched,
        changed: &Changed,
        (pace, now_ms): (&mut Pace, i64),
    ) {
        for notice in watched.touched(changed) {
            if self.hears(server, &notice, changed).await {
                pace.mark(notice, now_ms);
            }
        }
    }

    /// Whether a caller may learn of this. That a list is another is seen in the list itself, so
    /// it needs no look here.
    async fn hears(&mut self, server: &AdwServer, notice: &Notice, changed: &Changed) -> bool {
        let Notice::Updated(uri) = notice else { return true };
        if server.principal().scope.bound_to().is_none() {
            return true;
        }
        let Ok(Address::Run(address)) = Address::parse(uri) else { return false };
        match (address.run(), changed) {
            (Some(id), _) | (None, Changed::Run(id)) => self.knows(server, id).await,
            // What the list shows of the queue is its runs, and each of those is a change too.
            (None, changed) => *changed == Changed::Lagged,
        }
    }

    async fn knows(&mut self, server: &AdwServer, id: &RunId) -> bool {
        if let Some(known) = self.known.get(id) {
            return *known;
        }
        let Ok(knows) = server.runs().knows(id.as_str()).await else {
            // Better a notice too few: clients read again by themselves, and the next one comes.
            tracing::warn!(run = %id, "whose run it is cannot be read; a notice is left out");
            return false;
        };
        if self.known.len() >= AUDIENCE_COUNT {
            self.known.clear();
        }
        self.known.insert(id.clone(), knows);
        knows
    }
}

fn wait_ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// The lists as the client knows them.
///
/// Most changes are of what is listed already; clients read a whole list again on each notice, so
/// it is sent only where the list is another. None is a list of which that cannot be said.
#[derive(Default)]
struct Known {
    resources: Option<Vec<Resource>>,
    prompts: Option<Vec<Prompt>>,
}

impl Known {
    async fn look(server: &AdwServer, watched: &Watched) -> Known {
        let mut known = Known::default();
        if watched.list {
            known.resources_changed(server).await;
        }
        if watched.prompts {
            known.prompts_changed(server).await;
        }
        known
    }

    async fn resources_changed(&mut self, server: &AdwServer) -> bool {
        is_another(&mut self.resources, resources::listed(server).await)
    }

    async fn prompts_changed(&mut self, server: &AdwServer) -> bool {
        is_another(&mut self.prompts, prompts::listed(server).await)
    }
}

/// Keeps the list as it now is. One that cannot be read may be another.
fn is_another<T: PartialEq>(known: &mut Option<Vec<T>>, now: Result<Vec<T>, ErrorData>) -> bool {
    let now = now
        .inspect_err(|error| tracing::warn!(error = %error.message, "a list cannot be read"))
        .ok();
    let is_another = now.is_none() || now != *known;
    *known = now;
    is_another
}

/// False where nobody is there any more.
async fn tell(server: &AdwServer, sink: &impl Sink, notice: Notice, known: &mut Known) -> bool {
    match notice {
        Notice::Updated(uri) => sink.updated(uri).await,
        Notice::List => !known.resources_changed(server).await || sink.list_changed().await,
        Notice::Prompts => !known.prompts_changed(server).await || sink.prompts_changed().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(id: &str) -> RunId {
        RunId::parse(id).unwrap()
    }

    #[test]
    fn a_change_touches_what_shows_the_run() {
        let watched = Watched::list();
        for uri in ["adw://runs", "adw://runs/a", "adw://runs/a/log/plan", "adw://runs/b/state"] {
            assert!(watched.add(uri));
        }
        assert_eq!(watched.touched(&Changed::Run(run("a"))).len(), 4);
        assert_eq!(watched.touched(&Changed::Run(run("c"))).len(), 2);
        assert_eq!(watched.touched(&Changed::Lagged).len(), 6);
        assert_eq!(watched.touched(&Changed::Queue), [Notice::Updated("adw://runs".to_owned())]);
        assert_eq!(watched.touched(&Changed::Writing("7".to_owned())), [Notice::List]);
        let documented = "workflow://7/state";
        assert!(watched.add(documented) && watched.add("writing://8/state"));
        assert_eq!(
            watched.touched(&Changed::Writing("7".to_owned())),
            [Notice::Updated(documented.to_owned()), Notice::List]
        );
        assert_eq!(watched.touched(&Changed::Execution("7".to_owned())), [Notice::List]);
        watched.remove("adw://runs");
        assert!(watched.touched(&Changed::Queue).is_empty());
    }

    #[test]
    fn an_execution_and_content_touch_what_shows_them_as_the_client_wrote_it() {
        let watched = Watched::list();
        let of_execution = ["current_step://e1", "midex://workflow/workflow_status/e1"];
        for uri in of_execution.into_iter().chain(["workflow-status://e2", "persona://default"]) {
            assert!(watched.add(uri));
        }
        let mut expected: Vec<Notice> =
            of_execution.map(|uri| Notice::Updated(uri.to_owned())).into();
        expected.push(Notice::List);
        assert_eq!(watched.touched(&Changed::Execution("e1".to_owned())), expected);
        let persona = Notice::Updated("persona://default".to_owned());
        let expected = [persona, Notice::List, Notice::Prompts];
        assert_eq!(watched.touched(&Changed::Content), expected);
    }

    #[test]
    fn the_number_of_watched_resources_is_bounded() {
        let watched = Watched::default();
        for n in 0..WATCHED_COUNT {
            assert!(watched.add(&format!("adw://runs/r{n}")));
        }
        assert!(!watched.add("adw://runs"));
        assert!(watched.add("file:///x"), "what is not ours takes no place");
        let uris = (0..WATCHED_COUNT * 2).map(|n| format!("adw://runs/r{n}"));
        let asked = SubscriptionFilter::builder()
            .tools_list_changed()
            .resource_subscriptions(uris.chain(["file:///x".to_owned()]))
            .build();
        let accepted = acceptable(&asked);
        assert_eq!(accepted.resource_subscriptions.unwrap().len(), WATCHED_COUNT);
        assert_eq!(accepted.tools_list_changed, None);
    }

    #[test]
    fn a_first_change_is_told_at_once_and_a_burst_once_more() {
        let mut pace = Pace::default();
        pace.mark(Notice::List, 0);
        assert_eq!(pace.take(0), [Notice::List]);
        for ms in [10, 20, 30] {
            pace.mark(Notice::List, ms);
            assert!(pace.take(ms).is_empty());
        }
        assert_eq!(pace.next_ms(), Some(LIST_CHANGED_GAP_MS));
        assert_eq!(pace.take(LIST_CHANGED_GAP_MS), [Notice::List]);
        assert_eq!(pace.next_ms(), None);
    }

    proptest! {
        #[test]
        fn notices_keep_their_distance_and_no_change_is_forgotten(
            steps in proptest::collection::vec((0_i64..400, any::<bool>()), 1..60)
        ) {
            let (mut pace, mut now) = (Pace::default(), 0);
            let mut told: Vec<i64> = Vec::new();
            let mut last_mark = None;
            for (step, mark) in steps {
                now += step;
                if mark {
                    pace.mark(Notice::Updated("adw://runs".to_owned()), now);
                    last_mark = Some(now);
                }
                if !pace.take(now).is_empty() {
                    told.push(now);
                }
            }
            now += UPDATED_GAP_MS;
            if !pace.take(now).is_empty() {
                told.push(now);
            }
            prop_assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= UPDATED_GAP_MS));
            if let Some(mark) = last_mark {
                prop_assert!(told.last().is_some_and(|at| *at >= mark));
            }
        }
    }
}
