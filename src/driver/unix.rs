//! Listening on unix sockets: paths in use, sockets left by a dead process, and removal of the file.
//!
//! The permissions of the file and its directories decide who may connect (`unix(7)`). The process's
//! umask sets the permissions of the new file.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::socket::{Listener, SocketOptions};

/// Most bytes of a unix socket's path: `sun_path` has 108 (`unix(7)`), and the last is a NUL.
pub const PATH_BYTES_MAX: usize = 107;

/// Most attempts at a path that other processes create and remove meanwhile.
const TRIES_MAX: u32 = 3;

/// The file of a listening socket. Dropping this removes the file, unless another file has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Identifies a file, whatever its path names later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl SocketFile {
    /// The path as it was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Identity::of(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket's file");
        }
    }
}

/// Listens on a path. Replaces a socket on which no process listens any more, and never another file.
/// TCP options have no effect, and the buffers have the system's size (`net.core.wmem_default`).
///
/// # Errors
/// [`UnixBindError`] names the path and the likely cause. After an error nothing listens, and no file
/// was created.
pub fn bind_unix(path: &Path, options: &SocketOptions) -> Result<(Listener, SocketFile), UnixBindError> {
    let bytes = path.as_os_str().len();
    if bytes == 0 || bytes > PATH_BYTES_MAX {
        return Err(UnixBindError::PathLength { path: path.to_owned(), bytes });
    }
    let failed = |source| UnixBindError::of(path, source);
    let address = SockAddr::unix(path).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(failed)?;
    let mut tries = 1;
    while let Err(error) = socket.bind(&address) {
        if error.raw_os_error() != Some(libc::EADDRINUSE) || tries == TRIES_MAX {
            return Err(failed(error));
        }
        tries += 1;
        remove_if_dead(path, &address)?;
    }
    let identity = Identity::of(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity };
    let listener = Listener::listen_unix(socket, options).map_err(failed)?;
    Ok((listener, file))
}

/// Removes the socket at a path if nobody listens on it any more.
fn remove_if_dead(path: &Path, address: &SockAddr) -> Result<(), UnixBindError> {
    let failed = |source| UnixBindError::of(path, source);
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // It was removed meanwhile.
        metadata => metadata.map_err(failed)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(UnixBindError::NoSocket { path: path.to_owned() });
    }
    let before = Identity { device: metadata.dev(), inode: metadata.ino() };
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(failed)?;
    match probe.connect(address) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Err(failed(error)),
        // Also if its backlog is full (`EAGAIN`), or it is a socket of another kind (`EPROTOTYPE`).
        Ok(()) | Err(_) => return Err(UnixBindError::InUse { path: path.to_owned() }),
    }
    if Identity::of(path).is_ok_and(|found| found == before) {
        fs::remove_file(path).map_err(failed)?;
        tracing::info!(path = %path.display(), "replaced the socket of a process that has ended");
    }
    Ok(())
}

/// Why a path cannot be listened on. The operator can mend every variant.
#[derive(Debug, thiserror::Error)]
pub enum UnixBindError {
    /// Another process listens there.
    #[error("unix:{} is in use: another process listens there, perhaps another downpour", path.display())]
    InUse {
        /// The path asked for.
        path: PathBuf,
    },
    /// There is a file of another kind.
    #[error("cannot listen on unix:{}: there is a file already that is no socket; it is left alone", path.display())]
    NoSocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path is longer than the kernel allows, or empty.
    #[error("the path of a unix socket has 1 to {PATH_BYTES_MAX} bytes, {} has {bytes}", path.display())]
    PathLength {
        /// The path asked for.
        path: PathBuf,
        /// Its number of bytes.
        bytes: usize,
    },
    /// The socket's directory does not exist (`ENOENT`, `ENOTDIR`).
    #[error("cannot listen on unix:{}: its directory does not exist", path.display())]
    NoDirectory {
        /// The path asked for.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Permissions are lacking (`EACCES`).
    #[error(
        "not allowed to listen on unix:{}: that needs write permission in its directory, and on a socket that is there",
        path.display()
    )]
    NotAllowed {
        /// The path asked for.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Anything else: file descriptors ran out, or the file system does not support sockets.
    #[error("cannot listen on unix:{}", path.display())]
    Socket {
        /// The path asked for.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

impl UnixBindError {
    fn of(path: &Path, source: io::Error) -> UnixBindError {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => UnixBindError::InUse { path },
            Some(libc::ENOENT | libc::ENOTDIR) => UnixBindError::NoDirectory { path, source },
            Some(libc::EACCES) => UnixBindError::NotAllowed { path, source },
            _ => UnixBindError::Socket { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn bound(path: &Path) -> Result<(Listener, SocketFile), UnixBindError> {
        bind_unix(path, &SocketOptions::default())
    }

    #[test]
    fn a_path_is_listened_on_until_its_file_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (listener, file) = bound(&path).unwrap();
        assert!(listener.is_unix() && listener.address().is_none());
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_in_use_is_refused_and_stays_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (_listener, _file) = bound(&path).unwrap();
        let error = bound(&path).unwrap_err();
        assert!(matches!(error, UnixBindError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_path_whose_backlog_is_full_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let options = SocketOptions { backlog: 0, ..SocketOptions::default() };
        let (_listener, _file) = bind_unix(&path, &options).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert!(matches!(bound(&path), Err(UnixBindError::InUse { .. })));
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap()); // The file remains.
        assert!(UnixStream::connect(&path).is_err());
        let (_listener, _file) = bound(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(bound(&path), Err(UnixBindError::NoSocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"data");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(bound(&link), Err(UnixBindError::NoSocket { .. })));
    }

    #[test]
    fn a_file_that_took_the_sockets_place_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (_listener, file) = bound(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_no_socket_can_be_made_of_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = bound(&directory.path().join("missing/s")).unwrap_err();
        assert!(matches!(error, UnixBindError::NoDirectory { .. }), "{error:?}");
        let long = directory.path().join("x".repeat(108));
        assert!(matches!(bound(&long), Err(UnixBindError::PathLength { .. })));
        assert!(matches!(bound(Path::new("")), Err(UnixBindError::PathLength { bytes: 0, .. })));
    }
}
