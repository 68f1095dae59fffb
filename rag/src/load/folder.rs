//! Which files lie under the given paths, and reading one of them.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use stepwell_core::{Cancel, Document, Error, Result};

use super::below;
use super::limits::LoadLimits;
use super::refusal::Refusal;
use super::{io_reason, io_refusal, load_until};

/// Deepest folder; links are not followed, so only a very odd tree is deeper.
const DEEPEST: usize = 128;

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceFile {
    /// Its id in a collection: its path below the given folder, with `/` between the parts. It stays the same wherever
    /// the folder lies.
    pub id: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The given path it was found under, in its full form.
    pub root: PathBuf,
    /// The path to show: as given, then as in the id.
    pub uri: String,
    /// Its length in bytes when it was found.
    pub size: u64,
}

/// A file or folder that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedFile {
    /// Its path, to show.
    pub uri: String,
    /// Why, in a few words.
    pub reason: String,
}

impl SkippedFile {
    pub(crate) fn new(uri: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            reason: reason.into(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceFiles {
    /// Files to read, in the order of the given paths, and by name below each.
    pub files: Vec<SourceFile>,
    /// What will not be read.
    pub skipped: Vec<SkippedFile>,
    /// The given paths in their full form.
    pub roots: Vec<PathBuf>,
}

/// Finds the files under these paths; a path may be a file or a folder.
///
/// Hidden files and folders are passed over, and so are folders that hold an index. Links inside a folder are not
/// followed: one into the folder leads to what is found anyway; of others it is said that they were left. The same file
/// is found once.
///
/// # Errors
/// `not_found` when a given path is not there; `io` when it cannot be looked at.
pub fn find_files<I>(paths: I) -> Result<SourceFiles>
where
    I: IntoIterator,
    I::Item: AsRef<Path>,
{
    let mut walk = Walk::default();
    for path in paths {
        walk.root(path.as_ref())?;
    }
    Ok(walk.found)
}

#[derive(Default)]
struct Walk {
    found: SourceFiles,
    ids: HashSet<String>,
    paths: HashSet<PathBuf>,
}

impl Walk {
    fn root(&mut self, given: &Path) -> Result<()> {
        let root = fs::canonicalize(given).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound {
                what: "file or folder".to_owned(),
                name: given.display().to_string(),
                hint: "check the path".to_owned(),
            },
            _ => Error::io(format!("looking at {}", given.display()), error),
        })?;
        let shown = shown(given);
        let meta = fs::metadata(&root).map_err(|error| Error::io(format!("looking at {shown}"), error))?;
        if !self.found.roots.contains(&root) {
            self.found.roots.push(root.clone());
        }
        if meta.is_dir() {
            self.folder(&root, &root, "", &shown, 0);
        } else if meta.is_file() {
            let name = root
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            self.file(&root, root.clone(), name, shown, meta.len());
        } else {
            self.skip(shown, "neither a file nor a folder");
        }
        Ok(())
    }

    fn skip(&mut self, uri: impl Into<String>, reason: impl Into<String>) {
        self.found.skipped.push(SkippedFile::new(uri, reason));
    }

    fn folder(&mut self, root: &Path, folder: &Path, below: &str, uri: &str, depth: usize) {
        if depth > DEEPEST {
            return self.skip(uri, format!("folders nested deeper than {DEEPEST}"));
        }
        if is_index(folder) {
            return;
        }
        let entries: io::Result<Vec<_>> = fs::read_dir(folder).and_then(Iterator::collect);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.skip(uri, io_reason(&error)),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let (path, uri) = (entry.path(), join(uri, &name));
            let id = join(below, &name);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => {
                    if let Some(reason) = link_reason(root, &path) {
                        self.skip(uri, reason);
                    }
                }
                Ok(meta) if meta.is_dir() => self.folder(root, &path, &id, &uri, depth + 1),
                Ok(meta) if meta.is_file() => self.file(root, path, id, uri, meta.len()),
                Ok(_) => self.skip(uri, "neither a file nor a folder"),
                Err(error) => self.skip(uri, io_reason(&error)),
            }
        }
    }

    fn file(&mut self, root: &Path, path: PathBuf, id: String, uri: String, size: u64) {
        if !self.paths.insert(path.clone()) {
            return;
        }
        // Two given folders may hold the same names: then the later one's stand under its own name.
        let mut unique = id;
        if self.ids.contains(&unique) {
            let folder = if root == path {
                root.parent().unwrap_or(root)
            } else {
                root
            };
            let name = folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            unique = join(&name, &unique);
            let (base, mut number) = (unique.clone(), 2);
            while self.ids.contains(&unique) {
                unique = format!("{base}~{number}");
                number += 1;
            }
        }
        self.ids.insert(unique.clone());
        self.found.files.push(SourceFile {
            id: unique,
            path,
            root: root.to_owned(),
            uri,
            size,
        });
    }
}

/// The given path without a leading `./` or a trailing slash.
fn shown(given: &Path) -> String {
    let text = given.to_string_lossy().replace('\\', "/");
    let text = text.trim_end_matches('/');
    let text = text.strip_prefix("./").unwrap_or(text);
    match text {
        "" if given.has_root() => "/".to_owned(),
        "." => String::new(),
        text => text.to_owned(),
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() || folder.ends_with('/') {
        format!("{folder}{name}")
    } else {
        format!("{folder}/{name}")
    }
}

/// Why a link is left; `None` when it leads to something that is found without it.
fn link_reason(root: &Path, link: &Path) -> Option<String> {
    match fs::canonicalize(link) {
        Ok(target) if link.starts_with(&target) => Some("symbolic link loop".to_owned()),
        Ok(target) if target.starts_with(root) => None,
        Ok(_) => Some("symbolic link out of the folder, not followed".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("broken symbolic link".to_owned()),
        Err(error) => Some(io_reason(&error)),
    }
}

/// A folder that holds an index: its own files are not documents.
fn is_index(folder: &Path) -> bool {
    folder.join("meta.json").is_file() && folder.join(".managed.json").is_file()
}

/// The bytes of a file, read once, with their hash.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    /// BLAKE3 in hexadecimal.
    pub(crate) hash: String,
}

impl SourceFile {
    /// Reads its bytes, as far as the limit.
    pub(crate) fn content(&self, limits: &LoadLimits) -> Result<Content> {
        if self.size > limits.input_bytes {
            return Err(limits.too_large().of(&self.uri));
        }
        let file = below::open(&self.root, &self.path).map_err(|error| io_refusal(&self.uri, &error))?;
        content_of(file, self.size, limits).map_err(|refusal| refusal.of(&self.uri))
    }

    /// Reads the file as a document under its id and path.
    ///
    /// # Errors
    /// `unreadable`, with the reason in a few words.
    pub fn load(&self, limits: &LoadLimits) -> Result<Document> {
        let content = self.content(limits)?;
        self.document(content, limits, &Cancel::new())
    }

    pub(crate) fn document(
        &self,
        content: Content,
        limits: &LoadLimits,
        cancel: &Cancel,
    ) -> Result<Document> {
        // Whatever fails is told under the path the user knows.
        let mut document = load_until(&self.uri, content.bytes, limits, cancel)?;
        document.id.clone_from(&self.id);
        document.uri = Some(self.uri.clone());
        Ok(document)
    }
}

fn content_of(source: impl Read, size: u64, limits: &LoadLimits) -> std::result::Result<Content, Refusal> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(limits.input_bytes)).unwrap_or(0));
    // It may have grown since it was found.
    let read = source.take(limits.input_bytes + 1).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::new(io_reason(&error)))?;
    if bytes.len() as u64 > limits.input_bytes {
        return Err(limits.too_large());
    }
    let hash = blake3::hash(&bytes).to_hex().to_string();
    Ok(Content {
        bytes: bytes.into(),
        hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn write(folder: &TempDir, name: &str, bytes: &[u8]) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    fn ids(found: &SourceFiles) -> Vec<&str> {
        found.files.iter().map(|file| file.id.as_str()).collect()
    }

    #[test]
    fn files_come_sorted_under_their_relative_paths() {
        let folder = TempDir::new().expect("a folder");
        for name in [
            "b.md",
            "a/z.txt",
            "a/b/c.md",
            ".hidden",
            ".stepwell/x.md",
            "index/meta.json",
            "index/.managed.json",
            "index/seg.idx",
        ] {
            write(&folder, name, b"x");
        }
        let found = find_files([folder.path()]).expect("found");
        assert_eq!(ids(&found), ["a/b/c.md", "a/z.txt", "b.md"]);
        assert!(found.skipped.is_empty());
        assert_eq!(found, find_files([folder.path()]).expect("found"));
        let one = find_files([
            folder.path().join("a/z.txt"),
            folder.path().join("a"),
            folder.path().to_owned(),
        ])
        .expect("found");
        assert_eq!(ids(&one), ["z.txt", "b/c.md", "b.md"], "each file once");
    }

    #[test]
    fn equal_names_in_two_folders_stay_apart() {
        let (one, two) = (
            TempDir::new().expect("a folder"),
            TempDir::new().expect("a folder"),
        );
        write(&one, "a.md", b"1");
        write(&two, "a.md", b"2");
        let found = find_files([one.path(), two.path()]).expect("found");
        let name = two.path().file_name().expect("named").to_string_lossy();
        assert_eq!(ids(&found), ["a.md".to_owned(), format!("{name}/a.md")]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_told_and_not_followed() {
        use std::os::unix::fs::symlink;
        let (folder, outside) = (
            TempDir::new().expect("a folder"),
            TempDir::new().expect("a folder"),
        );
        write(&folder, "a/b.md", b"x");
        write(&outside, "secret.md", b"canary");
        let at = |name: &str| folder.path().join(name);
        symlink(folder.path(), at("a/up")).expect("a link");
        symlink(at("self"), at("self")).expect("a link");
        symlink(at("nowhere"), at("broken")).expect("a link");
        symlink(outside.path().join("secret.md"), at("out.md")).expect("a link");
        symlink(at("a/b.md"), at("in.md")).expect("a link");
        let found = find_files([folder.path()]).expect("found");
        assert_eq!(ids(&found), ["a/b.md"]);
        let told: Vec<_> = found
            .skipped
            .iter()
            .map(|skipped| {
                (
                    skipped.uri.rsplit('/').next().unwrap_or_default(),
                    skipped.reason.as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("up", "symbolic link loop"),
                ("broken", "broken symbolic link"),
                ("out.md", "symbolic link out of the folder, not followed"),
                ("self", "symbolic link loop"),
            ]
        );
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        assert_eq!(
            find_files(["no/such/path"]).expect_err("missing").code(),
            "not_found"
        );
    }

    struct Broken(io::ErrorKind);
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let limits = LoadLimits::default().with_input_bytes(2 << 10);
        let reason = |source: &mut dyn Read| content_of(source, 10, &limits).expect_err("refused").reason();
        assert_eq!(
            reason(&mut Broken(io::ErrorKind::PermissionDenied)),
            "permission denied"
        );
        assert_eq!(reason(&mut Broken(io::ErrorKind::NotFound)), "it is gone");
        assert_eq!(
            reason(&mut io::repeat(b'x')),
            "its size is over the limit of 2 KiB; raise `input_bytes` of the load limits"
        );
    }
}
