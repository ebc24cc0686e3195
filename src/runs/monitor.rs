//! stub
#![allow(missing_docs)]
use std::path::*;
pub struct LaunchSpec { pub argv:Vec<String>, pub cwd:PathBuf, pub wall_ms:u64, pub int_grace_ms:u64, pub term_grace_ms:u64, pub log_cap_bytes:u64 }
impl LaunchSpec{pub fn write(&self,_:&Path)->std::io::Result<()>{Ok(())}}
