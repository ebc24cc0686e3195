//! stub
#![allow(missing_docs)]
use std::path::*;
pub enum Mode{Auto} pub enum Hint{Path(PathBuf),RescanAll}
pub struct Watcher; impl Watcher{pub fn start(_:Mode)->Watcher{Watcher} pub async fn next(&self)->Option<Hint>{None} pub fn watch_run(&self,_:&[PathBuf])->Guard{Guard}}
pub struct Guard;
