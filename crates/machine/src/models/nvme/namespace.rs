//! The medium behind the namespace: memory, or an image file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::status::Status;
use crate::kept::Kept;

/// Bytes of a logical block.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("cannot open the image {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the image {} is in use: another process, or another controller, has it open", path.display())]
    InUse { path: PathBuf },
    #[error("cannot lock the image {}: {source}", path.display())]
    Lock { path: PathBuf, source: Errno },
    #[error("the image {} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("the image {} has {length} bytes, which is no multiple of the block size of {BLOCK_BYTES}", path.display())]
    NotBlocks { path: PathBuf, length: u64 },
    #[error("the image {} is empty", path.display())]
    EmptyImage { path: PathBuf },
    #[error("a size of {length} bytes is not a multiple, at least one, of the block size of {BLOCK_BYTES}")]
    Size { length: u64 },
    #[error("{length} bytes of memory are not to be had")]
    OutOfMemory { length: u64 },
}

/// A namespace: logical blocks of 512 bytes.
#[derive(Debug)]
pub(crate) struct Namespace {
    medium: Medium,
    length: u64,
}

#[derive(Debug)]
enum Medium {
    Memory(Vec<u8>),
    Image(Image),
}

#[derive(Debug)]
struct Image {
    file: Kept<File>,
    writable: bool,
    /// What a transfer passes through; as long as the longest one so far.
    window: Vec<u8>,
}

impl Namespace {
    /// `length` bytes of memory, all zero. What is never written is never allocated either.
    pub(crate) fn memory(length: u64) -> Result<Self, NamespaceError> {
        if length == 0 || !length.is_multiple_of(BLOCK_BYTES) {
            return Err(NamespaceError::Size { length });
        }
        let out_of_memory = || NamespaceError::OutOfMemory { length };
        let bytes = usize::try_from(length).map_err(|_| out_of_memory())?;
        // `vec!` leaves it to the system to zero pages when they are touched, but ends the process where it fails: so
        // ask first.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| out_of_memory())?;
        Ok(Namespace { medium: Medium::Memory(vec![0; bytes]), length })
    }

    /// The blocks of an image file, which are written in place and locked (`flock`) as long as the namespace is there.
    /// A file that may only be read makes a namespace that is write protected; any number may share it.
    pub(crate) fn image(path: &Path) -> Result<Self, NamespaceError> {
        let (file, writable) =
            open_image(path).map_err(|source| NamespaceError::Open { path: path.to_owned(), source })?;
        Namespace::of_file(file, writable, path)
    }

    /// The blocks of an open file, which errors call `path`.
    pub(super) fn of_file(file: File, writable: bool, path: &Path) -> Result<Self, NamespaceError> {
        let metadata =
            file.metadata().map_err(|source| NamespaceError::Open { path: path.to_owned(), source })?;
        let length = metadata.len();
        if !metadata.is_file() {
            return Err(NamespaceError::NotAFile { path: path.to_owned() });
        }
        if length == 0 {
            return Err(NamespaceError::EmptyImage { path: path.to_owned() });
        }
        if !length.is_multiple_of(BLOCK_BYTES) {
            return Err(NamespaceError::NotBlocks { path: path.to_owned(), length });
        }
        lock(&file, writable, path)?;
        Ok(Namespace {
            medium: Medium::Image(Image { file: Kept::new(file), writable, window: Vec::new() }),
            length,
        })
    }

    /// All bytes, of a namespace in memory.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.medium {
            Medium::Memory(bytes) => Some(bytes),
            Medium::Image(_) => None,
        }
    }

    /// Number of logical blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.length / BLOCK_BYTES
    }

    pub(super) fn is_writable(&self) -> bool {
        match &self.medium {
            Medium::Memory(_) => true,
            Medium::Image(image) => image.writable,
        }
    }

    /// The first byte and the number of bytes of `count` blocks from block `first`.
    pub(super) fn extent(&self, first: u64, count: u32) -> Result<Extent, Status> {
        let end = first.checked_add(count.into()).ok_or(Status::LBA_OUT_OF_RANGE)?;
        if end > self.blocks() {
            return Err(Status::LBA_OUT_OF_RANGE);
        }
        Ok(Extent { start: first * BLOCK_BYTES, length: count as usize * BLOCK_BYTES as usize })
    }

    /// The bytes of an extent.
    pub(super) fn read(&mut self, extent: Extent) -> Result<&[u8], Status> {
        match &mut self.medium {
            Medium::Memory(bytes) => Ok(&bytes[extent.range()]),
            Medium::Image(image) => {
                let window = window(&mut image.window, extent.length);
                match image.file.read_exact_at(window, extent.start) {
                    Ok(()) => Ok(window),
                    Err(_) => Err(Status::UNRECOVERED_READ_ERROR),
                }
            }
        }
    }

    /// Overwrites an extent with what `fill` puts there. If it fails, a memory may have been written in part.
    pub(super) fn write(
        &mut self,
        extent: Extent,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        match &mut self.medium {
            Medium::Memory(bytes) => fill(&mut bytes[extent.range()]),
            Medium::Image(image) if image.writable => {
                let window = window(&mut image.window, extent.length);
                fill(window)?;
                image.file.write_all_at(window, extent.start).map_err(|_| Status::WRITE_FAULT)
            }
            Medium::Image(_) => Err(Status::WRITE_PROTECTED),
        }
    }

    /// Overwrites an extent with zeros.
    pub(super) fn zero(&mut self, extent: Extent) -> Result<(), Status> {
        // A piece at a time: an extent may be much longer than a transfer.
        const PIECE: usize = 64 << 10;
        let mut rest = extent;
        while rest.length > 0 {
            let piece = Extent { length: rest.length.min(PIECE), ..rest };
            self.write(piece, |bytes| {
                bytes.fill(0);
                Ok(())
            })?;
            rest = Extent { start: rest.start + piece.length as u64, length: rest.length - piece.length };
        }
        Ok(())
    }

    /// Makes everything written so far survive a loss of power, as far as the medium can.
    pub(super) fn flush(&mut self) -> Result<(), Status> {
        match &self.medium {
            Medium::Image(image) if image.writable => image.file.sync_data().map_err(|_| Status::WRITE_FAULT),
            _ => Ok(()),
        }
    }
}

/// A part of the namespace, in bytes, that is known to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    start: u64,
    pub(super) length: usize,
}

impl Extent {
    /// In a medium of memory, where every offset is a `usize`.
    fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.length
    }
}

/// Opens an image to read and write, or where that is not allowed, to read.
fn open_image(path: &Path) -> io::Result<(File, bool)> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok((File::open(path)?, false))
        }
        Err(error) => Err(error),
    }
}

/// Keeps others from the image, or where it is only read, those that write it. The lock goes with the file.
fn lock(file: &File, writable: bool, path: &Path) -> Result<(), NamespaceError> {
    let operation = if writable {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    flock(file, operation).map_err(|errno| match errno {
        Errno::WOULDBLOCK => NamespaceError::InUse { path: path.to_owned() },
        source => NamespaceError::Lock { path: path.to_owned(), source },
    })
}

fn window(window: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if window.len() < length {
        window.resize(length, 0);
    }
    &mut window[..length]
}
