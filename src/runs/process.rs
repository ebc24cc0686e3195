//! stub
#![allow(missing_docs)]
use std::{path::*,ffi::*,collections::*,io};
use crate::clock::Millis;
pub struct Cmd { pub program: PathBuf, pub args: Vec<OsString>, pub cwd: Option<PathBuf>, pub env: BTreeMap<OsString,OsString>, pub stdin: Vec<u8>, pub timeout_ms: u64, pub max_output_bytes: usize }
pub struct Output { pub code: Option<i32>, pub timed_out: bool}
impl Output { pub fn success(&self)->bool{true} pub fn stdout_text(&self)->String{String::new()} pub fn last_error_line(&self)->String{String::new()} }
#[derive(Debug,thiserror::Error)] #[error("x")] pub struct ProcessError;
pub async fn output(_:&Cmd)->Result<Output,ProcessError>{Err(ProcessError)}
pub fn find_program(_:&str,_:&OsStr)->Option<PathBuf>{None}
pub struct ScopeSpec{pub unit:String}
impl ScopeSpec{pub fn where_possible(_:&BTreeMap<String,String>,_:&str)->Option<ScopeSpec>{None}}
pub struct MonitorLaunch { pub exe: PathBuf, pub attempt_dir: PathBuf, pub env: BTreeMap<OsString,OsString>, pub scope: Option<ScopeSpec> }
pub struct Launched{pub monitor_pid:u32}
pub async fn launch_monitor(_:&MonitorLaunch)->Result<Launched,ProcessError>{Err(ProcessError)}
pub struct StartRecord; 
pub struct ExitRecord{pub code:Option<i32>,pub signal:Option<i32>,pub stopped:Option<StopReason>,pub spawn_error:Option<String>,pub started_at:Millis}
impl ExitRecord{pub fn never_began(w:&str)->ExitRecord{ExitRecord{code:None,signal:None,stopped:None,spawn_error:Some(w.into()),started_at:Millis(0)}}}
#[derive(Clone,Copy)] pub enum StopReason {Cancel, WallLimit, Silence, LogLimit, Signal}
pub enum Probe { NotStarted, Live{start:Option<StartRecord>, monitor_alive:bool}, Ended(ExitRecord), Vanished(Option<StartRecord>) }
pub fn probe(_:&Path)->io::Result<Probe>{Ok(Probe::NotStarted)}
pub fn request_stop(_:&Path,_:StopReason)->io::Result<()>{Ok(())}
pub fn stop_requested(_:&Path)->Option<StopReason>{None}
pub async fn end_orphans(_:&Path,_:&StartRecord,_:u64)->u32{0}
