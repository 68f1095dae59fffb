//! Opening a file below a folder: what was a file when it was found may be a link by now.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a regular file below a folder, or the given file itself. On Linux no part of the way below may be a link; on
/// other Unix systems the file may not be one.
pub(super) fn open(root: &Path, path: &Path) -> io::Result<File> {
    let file = open_any(root, path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a file any longer",
        ));
    }
    Ok(file)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_any(root: &Path, path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;
    let below = match path.strip_prefix(root) {
        Ok(below) if !below.as_os_str().is_empty() => below,
        _ => return open_no_link(path),
    };
    let folder = rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat2(
        &folder,
        below,
        how,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    ) {
        Ok(file) => Ok(file.into()),
        // An old kernel, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_no_link(path),
        Err(error) => Err(error.into()),
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn open_any(_root: &Path, path: &Path) -> io::Result<File> {
    open_no_link(path)
}

#[cfg(not(unix))]
fn open_any(_root: &Path, path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Without waiting for the other end of what is a pipe by now.
#[cfg(unix)]
fn open_no_link(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, how, Mode::empty())?.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::super::{LoadLimits, find_files};

    #[test]
    fn what_became_a_link_or_a_pipe_since_it_was_found_is_not_read() {
        let (folder, outside) = (
            tempfile::TempDir::new().expect("a folder"),
            tempfile::TempDir::new().expect("a folder"),
        );
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("inner")).expect("a folder");
        for name in ["a.txt", "inner/b.txt", "pipe.txt", "still.txt"] {
            fs::write(at(name), "words").expect("a file");
        }
        for name in ["a.txt", "b.txt"] {
            fs::write(outside.path().join(name), "canary").expect("a file");
        }
        let found = find_files([folder.path()]).expect("found");
        for name in ["a.txt", "pipe.txt"] {
            fs::remove_file(at(name)).expect("a file");
        }
        fs::remove_dir_all(at("inner")).expect("a folder");
        symlink(outside.path().join("a.txt"), at("a.txt")).expect("a link");
        symlink(outside.path(), at("inner")).expect("a link");
        let made = Command::new("mkfifo").arg(at("pipe.txt")).status();
        assert!(made.expect("mkfifo").success());
        for file in found.files {
            let document = file.load(&LoadLimits::default());
            match file.id.as_str() {
                "still.txt" => assert_eq!(document.expect("read").text, "words"),
                _ => assert_eq!(document.expect_err(&file.id).code(), "unreadable"),
            }
        }
    }

    #[test]
    fn a_given_file_is_read_though_it_lies_behind_a_link() {
        let folder = tempfile::TempDir::new().expect("a folder");
        fs::write(folder.path().join("a.txt"), "words").expect("a file");
        symlink(folder.path().join("a.txt"), folder.path().join("link")).expect("a link");
        let found = find_files([folder.path().join("link")]).expect("found");
        assert_eq!(
            found.files[0].load(&LoadLimits::default()).expect("read").text,
            "words"
        );
    }
}
