//! stub
#![allow(missing_docs)]
use super::git::*; use std::path::*;
pub struct Worktrees; type R<T>=Result<T,GitError>;
impl Worktrees{pub fn new(_:Git,_:PathBuf)->Worktrees{Worktrees}
pub async fn repair(&self)->R<()>{Ok(())} pub async fn add_detached(&self,_:&Path,_:&str)->R<()>{Ok(())} pub async fn add_branch(&self,_:&Path,_:&str)->R<()>{Ok(())}
pub async fn remove(&self,_:&Path,_:bool)->R<()>{Ok(())} pub async fn ensure_exclude(&self,_:&[String])->R<()>{Ok(())} pub async fn contains(&self,_:&Path)->R<bool>{Ok(true)}
pub async fn resolve_base(&self,_:&str,_:Option<&str>)->R<Base>{Err(GitError)}}
