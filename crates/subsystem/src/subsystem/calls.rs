//! What is asked of an open file: ioctls, reads, writes, mappings.

use uapi::Errno;
use uapi::iommufd::{IOMMU_FAULT_QUEUE_ALLOC, IOMMU_VEVENTQ_ALLOC};
use uapi::iommufd_test::IOMMU_TEST_CMD;
use uapi::vfio::{
    VFIO_DEVICE_FEATURE, VFIO_DEVICE_PCI_HOT_RESET, VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_UNSET_CONTAINER,
};

use super::Subsystem;
use crate::ctx::{CallCtx, Polling};
use crate::host::{Host, RwLock as _};
use crate::iommufd::queue::ReadTo;
use crate::iommufd::{Context, selftest};
use crate::kconfig::Symbol;
use crate::rules::{
    Refusal, group as group_rules, iommufd as iommufd_rules, selftest as test_rules, vfio as rules,
};
use crate::tables::Tables;
use crate::vfio::device::Device;
use crate::vfio::file::{DeviceFile, File, FileKind};
use crate::vfio::{FileId, MapRequest, Mapped, MappedMemory, Ready, Whence, cdev, container, group, pci};

impl<H: Host> Subsystem<H> {
    /// `ioctl(2)`; the value is what a successful call returns.
    pub fn ioctl(
        &self,
        ctx: &CallCtx<'_, H>,
        file: FileId,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match command {
            IOMMU_FAULT_QUEUE_ALLOC | IOMMU_VEVENTQ_ALLOC if self.is_iommufd(file) => {
                self.tables.write(|tables| tables.open_queue(&self.host, ctx, file, (command, argument)))
            }
            IOMMU_TEST_CMD
                if let Some(on_file) = selftest::on_file(ctx, argument)
                    && self.kconfig.has(Symbol::IommufdTest)
                    && self.is_iommufd(file) =>
            {
                self.test_access(ctx, file, on_file, argument)
            }
            VFIO_GROUP_GET_DEVICE_FD if let Some(minor) = self.group_of(file) => {
                self.open_group_device(ctx, minor, argument)
            }
            VFIO_GROUP_UNSET_CONTAINER if let Some(minor) = self.group_of(file) => {
                self.unset_container(minor)
            }
            VFIO_DEVICE_FEATURE if let Some(device) = self.exporter_of(file, ctx, argument) => {
                let kconfig = self.kconfig;
                self.tables.write(|tables| tables.open_dma_buf(&self.host, ctx, kconfig, device, argument))
            }
            // Every device of the bus takes part, so nobody else does anything meanwhile.
            VFIO_DEVICE_PCI_HOT_RESET => {
                self.tables.write(|tables| self.ioctl_in(tables, ctx, file, command, argument))
            }
            _ => self.tables.read(|tables| self.ioctl_in(tables, ctx, file, command, argument)),
        }
    }

    /// A command that opens nothing and puts nothing.
    fn ioctl_in(
        &self,
        tables: &Tables<H>,
        ctx: &CallCtx<'_, H>,
        file: FileId,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match &tables.file(file)?.kind {
            FileKind::Iommufd(number) => {
                let exports = |file| tables.exported(file);
                tables.context(*number)?.object.ioctl_with(&self.host, ctx, &exports, command, argument)
            }
            FileKind::Device(file) => cdev::ioctl(tables, &self.host, ctx, file, command, argument),
            FileKind::Group(minor) => {
                let group = tables.group(*minor).ok_or(rules::FILE_CLOSED)?;
                group.ioctl(tables, &self.host, ctx, command, argument)
            }
            FileKind::Container(number) => {
                let modules = tables.modules();
                let call = container::Call { host: &self.host, ctx, modules, command, argument };
                tables.container(*number)?.object.ioctl(&call)
            }
            FileKind::DmaBuf(_) => Err(rules::DMA_BUF_IOCTL),
            FileKind::TestAccess { .. } => Err(test_rules::FILE_IOCTL),
            FileKind::Queue { .. } => Err(iommufd_rules::QUEUE_IOCTL),
        }
    }

    /// The device whose file was granted and is asked to export a part of a BAR.
    fn exporter_of(&self, file: FileId, ctx: &CallCtx<'_, H>, argument: u64) -> Option<u32> {
        let device = self.tables.read(|tables| match &tables.file(file).ok()?.kind {
            FileKind::Device(file) if file.granted() => {
                tables.device(file.device).ok()?.pci().map(|_| file.device)
            }
            _ => None,
        });
        device.filter(|_| pci::dma_buf::is_asked(ctx, argument))
    }

    /// An operation of `IOMMU_TEST_CMD` that opens the file of an access or of a dma-buf, or works on one.
    fn test_access(
        &self,
        ctx: &CallCtx<'_, H>,
        iommufd: FileId,
        on_file: selftest::OnFile,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let descriptor = match on_file {
            selftest::OnFile::Creates => {
                return self
                    .tables
                    .write(|tables| tables.open_test_access(&self.host, ctx, iommufd, argument));
            }
            selftest::OnFile::Exports => {
                return self.tables.write(|tables| tables.open_test_buffer(&self.host, ctx, argument));
            }
            selftest::OnFile::Revokes => {
                return self.tables.write(|tables| tables.revoke_test_buffer(&self.host, ctx, argument));
            }
            selftest::OnFile::Uses(descriptor) => descriptor,
        };
        let file = ctx.files.ours(descriptor).ok().flatten().ok_or(test_rules::ACCESS)?;
        self.tables.read(|tables| match tables.file(file)?.kind {
            FileKind::TestAccess { context, access } => {
                let context = &tables.context(context)?.object;
                context.test_access(&self.host, ctx, access, argument).map(|()| 0)
            }
            _ => Err(test_rules::ACCESS),
        })
    }

    fn is_iommufd(&self, file: FileId) -> bool {
        self.tables
            .read(|tables| tables.file(file).is_ok_and(|file| matches!(file.kind, FileKind::Iommufd(_))))
    }

    /// The minor number of the group that a file is of.
    fn group_of(&self, file: FileId) -> Option<u32> {
        self.tables.read(|tables| match tables.file(file).ok()?.kind {
            FileKind::Group(minor) => Some(minor),
            _ => None,
        })
    }

    /// `VFIO_GROUP_UNSET_CONTAINER`
    fn unset_container(&self, minor: u32) -> Result<u32, Refusal> {
        let left = self.tables.read(|tables| {
            tables.group(minor).ok_or(rules::FILE_CLOSED)?.unset_container(&self.host, tables.containers())
        })?;
        if let Some(left) = left {
            self.put(left);
        }
        Ok(0)
    }

    /// `VFIO_GROUP_GET_DEVICE_FD`: the descriptor comes first, and tells its number only if the device was opened.
    fn open_group_device(&self, ctx: &CallCtx<'_, H>, minor: u32, argument: u64) -> Result<u32, Refusal> {
        let name = group::read_name(&self.host, ctx.memory, argument)?;
        let file = self
            .tables
            .write(|tables| tables.open_group_device(&self.host, minor, name.iter().as_slice()))?;
        let mut opened = None;
        let installed = ctx.files.install(file, Polling::None, &mut |number| {
            let result = self.tables.read(|tables| self.open_device(tables, ctx, minor, file));
            opened = Some(result.map(|()| number.cast_unsigned()));
            result.map_err(Refusal::errno)
        });
        match (installed, opened) {
            (Ok(()), Some(Ok(number))) => Ok(number),
            (_, opened) => {
                self.release(file);
                Err(match opened {
                    Some(Err(refusal)) => refusal,
                    _ if installed == Err(Errno::EMFILE) => group_rules::DEVICE_FD_DESCRIPTOR,
                    _ => rules::NO_MEMORY,
                })
            }
        }
    }

    /// Opens the device of a file that its group is about to give out.
    fn open_device(
        &self,
        tables: &Tables<H>,
        ctx: &CallCtx<'_, H>,
        minor: u32,
        file: FileId,
    ) -> Result<(), Refusal> {
        let group = tables.group(minor).ok_or(rules::FILE_CLOSED)?;
        let FileKind::Device(file) = &tables.file(file)?.kind else { return Err(rules::FILE_CLOSED) };
        group.open_device(tables, &self.host, ctx, tables.device(file.device)?)?;
        file.grant();
        Ok(())
    }

    /// `pread(2)`; the number of bytes that were read.
    pub fn read(
        &self,
        _ctx: &CallCtx<'_, H>,
        file: FileId,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Refusal> {
        self.tables.read(|tables| {
            let File { access, kind } = tables.file(file)?;
            match kind {
                _ if !access.read => Err(rules::FILE_NOT_READABLE),
                FileKind::Iommufd(_) => Err(rules::IOMMUFD_READ),
                FileKind::Group(_) | FileKind::Container(_) => Err(group_rules::FILE_READ),
                FileKind::Device(file) => bound(tables, file)?.driver.read(&self.host, offset, bytes),
                FileKind::DmaBuf(_) => Err(rules::DMA_BUF_POSITION),
                FileKind::TestAccess { .. } => Err(test_rules::FILE_POSITION),
                FileKind::Queue { .. } => Err(iommufd_rules::QUEUE_POSITION),
            }
        })
    }

    /// `read(2)` of a file without positions, to memory of the caller; the number of bytes that were read. Where a file that has
    /// positions is read next, the host knows, and calls [`Subsystem::read`].
    pub fn read_stream(
        &self,
        ctx: &CallCtx<'_, H>,
        file: FileId,
        address: u64,
        length: u64,
    ) -> Result<usize, Refusal> {
        match self.stream(file) {
            Some(Stream::Queue { context, queue }) => {
                let to = ReadTo::new(ctx.memory, address, length);
                self.tables.read(|tables| tables.context(context)?.object.queue_read(&self.host, queue, to))
            }
            Some(Stream::DmaBuf) => Err(rules::DMA_BUF_ACCESS),
            Some(Stream::TestAccess) => Err(test_rules::FILE_READ),
            None => Err(rules::FILE_CLOSED),
        }
    }

    /// `write(2)`; the number of bytes that were written. A file that has positions is written at its start.
    pub fn write_stream(&self, ctx: &CallCtx<'_, H>, file: FileId, bytes: &[u8]) -> Result<usize, Refusal> {
        match self.stream(file) {
            Some(Stream::Queue { context, queue }) => {
                self.tables.read(|tables| tables.context(context)?.object.queue_write(queue, bytes))
            }
            Some(Stream::DmaBuf) => Err(rules::DMA_BUF_ACCESS),
            Some(Stream::TestAccess) => Err(test_rules::FILE_READ),
            None => self.write(ctx, file, 0, bytes),
        }
    }

    /// `poll(2)`. A queue is readable while something is queued; every file but queues is always ready.
    pub fn poll(&self, file: FileId) -> Ready {
        let queue = |context, queue| {
            self.tables.read(|tables| tables.context(context).ok().map(|it| it.object.queue_ready(queue)))
        };
        match self.stream(file) {
            Some(Stream::Queue { context, queue: id }) => queue(context, id),
            Some(Stream::DmaBuf | Stream::TestAccess) | None => None,
        }
        .unwrap_or(Ready { read: true, write: true })
    }

    /// Whether a file is read and written without positions.
    pub fn is_stream(&self, file: FileId) -> bool {
        self.stream(file).is_some()
    }

    fn stream(&self, file: FileId) -> Option<Stream> {
        self.tables.read(|tables| match tables.file(file).ok()?.kind {
            FileKind::Queue { context, queue } => Some(Stream::Queue { context, queue }),
            FileKind::DmaBuf(_) => Some(Stream::DmaBuf),
            FileKind::TestAccess { .. } => Some(Stream::TestAccess),
            _ => None,
        })
    }

    /// `pwrite(2)`; the number of bytes that were written.
    pub fn write(
        &self,
        _ctx: &CallCtx<'_, H>,
        file: FileId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, Refusal> {
        self.tables.read(|tables| {
            let File { access, kind } = tables.file(file)?;
            match kind {
                _ if !access.write => Err(rules::FILE_NOT_WRITABLE),
                FileKind::Iommufd(_) => Err(rules::IOMMUFD_WRITE),
                FileKind::Group(_) | FileKind::Container(_) => Err(group_rules::FILE_WRITE),
                FileKind::Device(file) => bound(tables, file)?.driver.write(&self.host, offset, bytes),
                FileKind::DmaBuf(_) => Err(rules::DMA_BUF_POSITION),
                FileKind::TestAccess { .. } => Err(test_rules::FILE_POSITION),
                FileKind::Queue { .. } => Err(iommufd_rules::QUEUE_POSITION),
            }
        })
    }

    /// `mmap(2)`; the file is not released while the mapping lives.
    pub fn map(&self, _ctx: &CallCtx<'_, H>, file: FileId, request: MapRequest) -> Result<Mapped, Refusal> {
        let MapRequest { offset, length, shared, writable, executable } = request;
        self.tables.read(|tables| {
            let File { access, kind } = tables.file(file)?;
            match kind {
                _ if length == 0 => Err(rules::MAP_EMPTY),
                _ if !offset.is_multiple_of(H::PAGE) => Err(rules::MAP_UNALIGNED),
                _ if shared && writable && !access.write => Err(rules::MAP_NOT_WRITABLE),
                _ if !access.read => Err(rules::MAP_NOT_READABLE),
                FileKind::Iommufd(_) if !shared => Err(rules::IOMMUFD_MAP_PRIVATE),
                FileKind::Iommufd(_) if executable => Err(rules::IOMMUFD_MAP_EXECUTABLE),
                FileKind::Iommufd(context) => {
                    let object = tables.context(*context)?.object.map(offset, length)?;
                    Ok(Mapped::Memory(MappedMemory { context: *context, object }))
                }
                FileKind::Group(_) | FileKind::Container(_) => Err(group_rules::FILE_MAP),
                FileKind::Device(file) => {
                    bound(tables, file)?.driver.map(&self.host, request).map(Mapped::Region)
                }
                FileKind::DmaBuf(_) => Err(rules::DMA_BUF_ACCESS),
                FileKind::TestAccess { .. } => Err(test_rules::FILE_MAP),
                FileKind::Queue { .. } => Err(iommufd_rules::QUEUE_MAP),
            }
        })
    }

    /// Memory of an object is mapped, or no longer.
    pub fn set_mapped(&self, memory: MappedMemory, mapped: bool) {
        self.with_mapped(memory, |context, object| context.set_mapped(object, mapped));
    }

    /// Reads memory of an object that is mapped.
    pub fn mapped_read(&self, memory: MappedMemory, at: u64, bytes: &mut [u8]) {
        self.with_mapped(memory, |context, object| context.mapped_read(object, at, bytes));
    }

    /// Writes memory of an object that is mapped.
    pub fn mapped_write(&self, memory: MappedMemory, at: u64, bytes: &[u8]) {
        self.with_mapped(memory, |context, object| context.mapped_write(object, at, bytes));
    }

    /// The file of the context is open.
    fn with_mapped(&self, memory: MappedMemory, f: impl FnOnce(&Context<H>, u32)) {
        self.tables.read(|tables| {
            if let Ok(shared) = tables.context(memory.context) {
                f(&shared.object, memory.object);
            }
        });
    }

    /// `lseek(2)`: only a dma-buf has a place to go to, its start or its end.
    pub fn seek(&self, file: FileId, whence: Whence, offset: i64) -> Result<u64, Refusal> {
        self.tables.read(|tables| match tables.file(file)?.kind {
            FileKind::DmaBuf(export) => match (whence, offset) {
                (Whence::Start, 0) => Ok(0),
                (Whence::End, 0) => Ok(export.length()),
                _ => Err(rules::DMA_BUF_SEEK),
            },
            FileKind::Queue { .. } => Err(iommufd_rules::QUEUE_POSITION),
            FileKind::Iommufd(_)
            | FileKind::Device(_)
            | FileKind::Group(_)
            | FileKind::Container(_)
            | FileKind::TestAccess { .. } => Err(rules::FILE_SEEK),
        })
    }

    /// What `/proc/self/fdinfo/N` says beyond what it says of every file, in whole lines.
    pub fn fdinfo(&self, file: FileId, write: &mut dyn FnMut(&str)) {
        self.tables.read(|tables| {
            if let Ok(File { kind: FileKind::Device(file), .. }) = tables.file(file)
                && let Ok(device) = tables.device(file.device)
            {
                write("vfio-device-syspath: /sys");
                self.host.sysfs_path(device.identity.function, write);
                write("\n");
            }
        });
    }
}

/// A file without positions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// The context's number, and the queue's identifier there.
    Queue {
        context: u32,
        queue: u32,
    },
    DmaBuf,
    TestAccess,
}

/// The device of a file that was bound.
fn bound<'a, H: Host>(tables: &'a Tables<H>, file: &DeviceFile) -> Result<&'a Device<H>, Refusal> {
    if !file.granted() {
        return Err(rules::NOT_BOUND);
    }
    tables.device(file.device)
}
