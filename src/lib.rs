//! `adwd`: a daemon that turns an issue number into a reviewed branch and pull request.
//!
#![doc = include_str!("ARCHITECTURE.md")]

// L0: words, bounds and the kernel's facts.
pub mod changes;
pub mod clock;
pub mod crash;
pub mod cron;
pub mod ids;
pub mod limits;
pub mod lock;
pub mod plain;
// L1: the outside world's settings, log and database.
pub mod automation;
pub mod config;
pub mod db;
pub mod metrics;
pub mod out;
pub mod telemetry;
pub mod tls;
pub mod uv;
pub mod watch;
// L2: who asks, how much, and what was asked.
pub mod audit;
pub mod auth;
pub mod quota;
// L3: the slices.
pub mod runs;
pub mod steps;
pub mod writing;
// L4: the wire, both ends of it, and other programs.
pub mod client;
pub mod mcp;
pub mod outside;
pub mod probe;
pub mod tool;
pub mod traces;
pub mod web;
// L5: the program.
pub mod cli;
pub mod daemon;
pub mod demo;
pub mod doctor;
pub mod service;
