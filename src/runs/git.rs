//! stub
#![allow(missing_docs)]
use std::{path::*,collections::*};
#[derive(Debug,thiserror::Error)] #[error("x")] pub struct GitError; impl GitError{pub fn is_network(&self)->bool{false}}
#[derive(Clone,Debug)] pub struct Base{pub branch:String,pub commit:String,pub fetched:bool}
pub struct Git; type R<T>=Result<T,GitError>;
pub async fn toplevel(_:&Path,_:&BTreeMap<String,String>)->R<PathBuf>{Err(GitError)}
impl Git{pub fn new(_:&Path,_:BTreeMap<String,String>)->Git{Git}
pub async fn head(&self,_:&Path)->R<String>{Err(GitError)} pub async fn is_clean(&self,_:&Path)->R<bool>{Err(GitError)}
pub async fn file_in_commit(&self,_:&str,_:&Path)->R<bool>{Err(GitError)} pub async fn ahead_count(&self,_:&str,_:&str)->R<u64>{Err(GitError)}
pub async fn remote_branch_commit(&self,_:&str,_:&str)->R<Option<String>>{Err(GitError)}
pub async fn local_branch_commit(&self,_:&str)->R<Option<String>>{Err(GitError)}
pub async fn branches(&self,_:&str)->R<Vec<String>>{Err(GitError)}
pub async fn remote_url(&self,_:&str)->R<Option<String>>{Err(GitError)}
}
