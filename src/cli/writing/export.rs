//! `adwd writing export`.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::ours::Ours;
use crate::cli::args::{Export, ExportFormat, ExportTable};
use crate::cli::fail::{Fail, exit};
use crate::cli::link::Cx;
use crate::out::{Out, harmless};
use crate::writing::export::{CsvTable, Format};
use crate::writing::{WorkflowRef, Writing, WritingError};

/// Does it.
pub async fn command(cx: &Cx, given: Export) -> Result<u8, Fail> {
    let ours = Ours::beside(cx).await?;
    let done = export(cx, &ours.writing, &given).await;
    ours.close().await;
    done.map(|()| exit::OK)
}

async fn export(cx: &Cx, writing: &Writing, given: &Export) -> Result<(), Fail> {
    // Before the first byte: a header is no export.
    if let Some(workflow_id) = given.id {
        writing.get_workflow_state(WorkflowRef { workflow_id }).await?;
    }
    let format = match (given.format, given.table) {
        (ExportFormat::Jsonl, _) => Format::JsonLines,
        (ExportFormat::Csv, ExportTable::Metrics) => Format::Csv(CsvTable::Metrics),
        (ExportFormat::Csv, ExportTable::Daily) => Format::Csv(CsvTable::Daily),
        (ExportFormat::Csv, ExportTable::Phases) => Format::Csv(CsvTable::Phases),
    };
    let Some(output) = &given.output else {
        let mut pipe = BufWriter::new(Pipe::new(&cx.out));
        let done = writing.export(given.id, format, &mut pipe).await;
        let flushed = pipe.flush();
        // A reader that went away has read enough.
        return match done {
            _ if cx.out.is_gone() => Ok(()),
            Ok(_) => flushed.map_err(|error| WritingError::Io(error).into()),
            Err(error) => Err(error.into()),
        };
    };
    let path = cx.here.join(output);
    let rows = into_file(writing, given.id, format, &path).await?;
    cx.out.note(&format!("{rows} rows in {}", path.display()));
    Ok(())
}

/// The file is there whole, or as it was before.
async fn into_file(
    writing: &Writing,
    id: Option<i64>,
    format: Format,
    path: &Path,
) -> Result<u64, Fail> {
    let unwritable = |error: io::Error| {
        Fail::new(exit::FAILED, "io", format!("cannot write {}: {error}", path.display()))
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    // As any new file: what the umask leaves of it.
    let mut file = tempfile::Builder::new()
        .prefix(".adwd-export-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(unwritable)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    let rows = writing.export(id, format, &mut buffered).await?;
    buffered.flush().map_err(unwritable)?;
    drop(buffered);
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist(path).map_err(|error| unwritable(error.error))?;
    Ok(rows)
}

/// Standard output, by the one way there is.
struct Pipe<'o> {
    out: &'o Out,
    /// The beginning of a character whose end has not come yet.
    torn: Vec<u8>,
}

impl Pipe<'_> {
    fn new(out: &Out) -> Pipe<'_> {
        Pipe { out, torn: Vec::new() }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = whole(&mut self.torn, bytes)?;
        // A title may hold what steers a terminal; a file has it as it is.
        let shown = if self.out.is_terminal() { harmless(&text) } else { text };
        self.out.raw(&shown);
        if self.out.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The whole characters of what came; the beginning of one that is torn waits for its end.
fn whole(torn: &mut Vec<u8>, bytes: &[u8]) -> io::Result<String> {
    torn.extend_from_slice(bytes);
    let end = match std::str::from_utf8(torn) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let rest = torn.split_off(end);
    let done = std::mem::replace(torn, rest);
    String::from_utf8(done).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_torn_apart_comes_out_whole() {
        let (mut torn, mut told) = (Vec::new(), String::new());
        for byte in "Ünïcode → 😀".bytes() {
            told.push_str(&whole(&mut torn, &[byte]).unwrap());
        }
        assert_eq!((told.as_str(), torn.len()), ("Ünïcode → 😀", 0));
        assert!(whole(&mut torn, &[0xff]).is_err());
    }
}
