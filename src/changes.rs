//! The only road upward: lower layers say *what changed*, never what it changed to.
//!
//! A change is a hint without data. Whoever hears one reads the truth again, so a lost or doubled
//! hint costs time and never correctness.

use tokio::sync::broadcast;

use crate::ids::{ProjectName, RunId};
use crate::limits::CHANGES_BUFFER_COUNT;

/// Something that a listener may want to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The run's row, phases or files.
    Run(RunId),
    /// The project's settings or health.
    Project(ProjectName),
    /// What is queued or running, and in which order.
    Queue,
    /// A step workflow's execution, by id.
    Execution(String),
    /// The content of step workflows: agents, rules, workflows.
    Content,
    /// A writing workflow, by id.
    Writing(String),
    /// The listener was too slow and missed some: it must read everything again.
    Lagged,
}

/// The sending side; clones share one channel.
#[derive(Clone, Debug)]
pub struct Changes(broadcast::Sender<Changed>);

impl Changes {
    /// A channel without listeners.
    pub fn new() -> Changes {
        Changes(broadcast::Sender::new(CHANGES_BUFFER_COUNT))
    }

    /// Tells every listener; without one the change is dropped. Never blocks.
    pub fn send(&self, changed: Changed) {
        // The error only says that nobody listens, which is not one.
        let _ = self.0.send(changed);
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

impl Default for Changes {
    fn default() -> Changes {
        Changes::new()
    }
}

/// The listening side.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Changed>);

impl Subscription {
    /// What has changed already; `None` where all of that was heard.
    pub fn next_of_now(&mut self) -> Option<Changed> {
        match self.0.try_recv() {
            Ok(changed) => Some(changed),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Changed::Lagged),
            Err(_) => None,
        }
    }

    /// Waits for the next change; `None` once every [`Changes`] is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Changed> {
        match self.0.recv().await {
            Ok(changed) => Some(changed),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Changed::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_hears_that_it_lagged_and_goes_on() {
        let changes = Changes::new();
        changes.send(Changed::Queue);
        let mut listener = changes.subscribe();
        for _ in 0..CHANGES_BUFFER_COUNT * 2 {
            changes.send(Changed::Queue);
        }
        assert_eq!(listener.next().await, Some(Changed::Lagged));
        assert_eq!(listener.next().await, Some(Changed::Queue));
    }

    #[tokio::test]
    async fn the_end_comes_when_all_senders_are_gone() {
        let changes = Changes::new();
        let second = changes.clone();
        let mut listener = changes.subscribe();
        drop(changes);
        second.send(Changed::Execution("e".to_owned()));
        drop(second);
        assert_eq!(listener.next().await, Some(Changed::Execution("e".to_owned())));
        assert_eq!(listener.next().await, None);
    }
}
