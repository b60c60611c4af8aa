//! CSV in and out. Files are written beside and renamed, so that a killed run leaves no half file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file that is being written beside its place.
pub struct Unpublished {
    path: PathBuf,
    file: NamedTempFile,
}

impl Unpublished {
    /// An empty file in the folder where `path` will be.
    pub fn beside(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(Error::input(path.display(), "is a folder: name a file"));
        }
        // Renaming onto a link, a pipe or a device would take its place.
        if path.symlink_metadata().is_ok_and(|known| !known.is_file()) {
            return Err(Error::input(path.display(), "is there and is no plain file: name another"));
        }
        if !folder.is_dir() {
            return Err(Error::input(
                path.display(),
                format!("the folder `{}` is not there", folder.display()),
            ));
        }
        // The error of the temporary file would name that, which is nobody's concern.
        let file = temporary_file(folder, path)
            .map_err(|error| Error::io(path, "write", &std::io::Error::from(error.kind())))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Where it stands until it is published.
    pub fn unfinished(&self) -> PathBuf {
        self.file.path().to_path_buf()
    }

    /// A handle to write with.
    pub fn handle(&self) -> Result<File> {
        self.file.as_file().try_clone().map_err(|error| self.failed(&error))
    }

    /// Renames the file to its place, on the disk first.
    pub fn publish(self) -> Result<()> {
        let done = self.file.as_file().sync_all().and_then(|()| publish_permissions(&self.file));
        done.map_err(|error| self.failed(&error))?;
        let Self { path, file } = self;
        file.persist(&path).map(|_| ()).map_err(|error| Error::io(&path, "write", &error.error))
    }

    /// The error of a failure to write it.
    pub(super) fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(&self.path, "write", error)
    }
}

/// A file in a folder whose name says what it is for, on which host and by which process, so that what a killed process
/// left on a shared disk says whose it was.
fn temporary_file(folder: &Path, path: &Path) -> std::io::Result<NamedTempFile> {
    let name: String = path.file_name().unwrap_or_default().to_string_lossy().chars().take(80).collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let host: String = host.trim().chars().filter(is_plain).take(64).collect();
    tempfile::Builder::new().prefix(&format!(".{name}.{host}.{}.", std::process::id())).tempfile_in(folder)
}

/// Temporary files are private; a result is as readable as any new file.
#[cfg(unix)]
fn publish_permissions(file: &NamedTempFile) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn publish_permissions(_: &NamedTempFile) -> std::io::Result<()> {
    Ok(())
}

/// Writes a whole file beside its place and renames it.
pub fn write_file(path: &Path, content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let file = Unpublished::beside(path)?;
    let mut buffered = std::io::BufWriter::new(file.handle()?);
    content(&mut buffered).and_then(|()| buffered.flush()).map_err(|error| file.failed(&error))?;
    drop(buffered);
    file.publish()
}

/// Writes a table of text as CSV.
pub fn write_csv(path: &Path, header: &[String], rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    write_read_csv(path, header, rows.map(Ok))
}

/// Writes a table of text whose rows are read from elsewhere, as CSV.
pub fn write_read_csv(
    path: &Path,
    header: &[String],
    rows: impl Iterator<Item = Result<Vec<String>>>,
) -> Result<()> {
    let mut unread = None;
    let written = write_file(path, |out| {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(header)?;
        for row in rows {
            match row {
                Ok(row) => writer.write_record(row)?,
                Err(error) => {
                    unread = Some(error);
                    return Err(std::io::ErrorKind::Other.into());
                }
            }
        }
        writer.flush()
    });
    unread.map_or(written, Err)
}

/// Makes a folder for results and checks that files can be written there.
pub fn prepare_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, "make the folder", &error))?;
    temporary_file(folder, Path::new("probe"))
        .map_err(|error| Error::io(folder, "write into the folder", &std::io::Error::from(error.kind())))?;
    Ok(())
}

/// A number as text: whole numbers without a point, missing as nothing.
pub fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}
