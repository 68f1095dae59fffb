//! Whether a file is gone, or only cannot be seen just now: what cannot be seen is not deleted.

use std::fs;
use std::io;
use std::path::Path;

use crate::load::SkippedFile;

/// Whether the file of a document that was not found is gone for sure. A folder on the way that cannot be listed, or a
/// file that is there and was passed over together with its folder, proves nothing.
pub(super) fn is_gone(root: &Path, id: &str, skipped: &[SkippedFile]) -> bool {
    // Where two roots hold the same names, the later one's ids begin with its own name.
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned());
    let below = name.and_then(|name| id.strip_prefix(&name)?.strip_prefix('/'));
    [Some(id), below]
        .into_iter()
        .flatten()
        .all(|id| is_gone_at(root, id, skipped, &|folder| fs::read_dir(folder).map(drop)))
}

fn is_gone_at(
    root: &Path,
    id: &str,
    skipped: &[SkippedFile],
    list: &dyn Fn(&Path) -> io::Result<()>,
) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    let is_absent = |error: &io::Error| matches!(error.kind(), NotFound | NotADirectory);
    let mut folder = root.to_path_buf();
    let parts: Vec<&str> = id.split('/').collect();
    let (Some(name), folders) = (parts.last(), &parts[..parts.len().saturating_sub(1)]) else {
        return true;
    };
    if root.is_dir() {
        for part in std::iter::once(None).chain(folders.iter().map(Some)) {
            if let Some(part) = part {
                folder.push(part);
            }
            match list(&folder) {
                Ok(()) => {}
                Err(error) => return is_absent(&error),
            }
        }
    }
    let path = if root.is_dir() {
        folder.join(name)
    } else {
        root.to_path_buf()
    };
    match fs::symlink_metadata(&path) {
        Err(error) => is_absent(&error),
        Ok(meta) if meta.is_file() => !skipped.iter().any(|skipped| {
            let name = skipped.uri.rsplit('/').next().unwrap_or_default();
            parts.contains(&name)
        }),
        // A link or a folder stands in its place.
        Ok(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_seen_to_be_absent_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).expect("folders");
        fs::write(root.join("a/b/there.md"), "x").expect("a file");
        fs::write(root.join("plain"), "x").expect("a file");
        let list = |folder: &Path| fs::read_dir(folder).map(drop);
        let gone = |id: &str, skipped: &[SkippedFile]| is_gone_at(root, id, skipped, &list);
        assert!(gone("a/b/other.md", &[]));
        assert!(gone("a/c/deep/other.md", &[]));
        assert!(gone("plain/other.md", &[]), "a file stands where the folder was");
        assert!(gone("a/b", &[]), "a folder stands in its place");
        // It is there, but was not found: another root has it, or it lies in an index.
        assert!(gone("a/b/there.md", &[]));
        // Its folder was passed over.
        assert!(!gone(
            "a/b/there.md",
            &[SkippedFile::new("docs/a", "permission denied")]
        ));
        let refuses = |folder: &Path| {
            if folder.ends_with("a") {
                Err(io::ErrorKind::PermissionDenied.into())
            } else {
                list(folder)
            }
        };
        assert!(!is_gone_at(root, "a/b/other.md", &[], &refuses));
        assert!(is_gone_at(root, "c/other.md", &[], &refuses));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_became_a_link_is_gone_and_a_second_roots_name_is_looked_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("two");
        fs::create_dir_all(&root).expect("a folder");
        std::os::unix::fs::symlink("nowhere", root.join("a.md")).expect("a link");
        assert!(is_gone(&root, "a.md", &[]));
        fs::write(root.join("b.md"), "x").expect("a file");
        let skipped = [SkippedFile::new("two/b.md", "it changes while it is read")];
        assert!(!is_gone(&root, "two/b.md", &skipped));
    }
}
