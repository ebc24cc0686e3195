//! `adwd`: a daemon that turns an issue number into a reviewed branch and pull request.

// L0: words, bounds and the kernel's facts.
pub mod changes;
pub mod clock;
pub mod ids;
pub mod limits;
pub mod lock;
// L1: the outside world's settings, log and database.
pub mod config;
pub mod db;
pub mod telemetry;
