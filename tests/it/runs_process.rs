//! The monitor and the commands of `runs::process`, with real processes.

mod attempt;
mod commands;
mod monitor;
mod orphans;
