//! Accesses that self-tests of IOMMUFD make by `IOMMU_TEST_CMD`, and their files.

use subsystem::{FileId, Refusal, Symbol, UserMemory, Whence};
use uapi::Command;
use uapi::iommufd::*;
use uapi::iommufd_test::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::client::{Client, Vfio, assert_refused, machine_with, state};
use crate::support::host::ARGUMENT;
use crate::support::memory::{Layout, PAGE};
use std::sync::Arc;

const BUFFER: u64 = 0x4000_0000;
const IOVA: u64 = 0x100_0000;
const SCRATCH: u64 = 0x5000_0000;

fn with_tests() -> Arc<Vfio> {
    let options =
        [Symbol::DebugKernel, Symbol::FaultInjection, Symbol::RuntimeTestingMenu, Symbol::IommufdTest];
    machine_with(&options, &[])
}

/// A process with a context and an IOAS, and 4 pages of memory.
struct Process<'a> {
    client: Client<'a>,
    iommufd: FileId,
    ioas: u32,
}

impl<'a> Process<'a> {
    fn new(vfio: &'a Vfio) -> Self {
        let mut client = Client::new(vfio);
        let (iommufd, _) = client.iommufd();
        let ioas = client.ioas(iommufd);
        let task = client.caller.task;
        for (address, pages) in [(BUFFER, 4), (SCRATCH, 1)] {
            vfio.host().ram(|ram| ram.map(task, address, pages, Layout::Scattered, true));
        }
        Process { client, iommufd, ioas }
    }

    fn test<T: FromBytes + IntoBytes + Immutable>(
        &self,
        op: u32,
        id: u32,
        operand: &T,
    ) -> Result<T, Refusal> {
        let mut command = IommuTestCmd { op, id, ..Command::new() };
        command.put(operand);
        self.client.call(self.iommufd, &mut command).map(|_| command.get())
    }

    /// A descriptor of a new access.
    fn access(&self, ioas: u32, flags: u32) -> Result<u32, Refusal> {
        let operand = IommuTestCreateAccess { flags, ..Default::default() };
        self.test(IOMMU_TEST_OP_CREATE_ACCESS, ioas, &operand).map(|made| made.out_access_fd)
    }

    fn pin(&self, fd: u32, iova: u64, length: u64, uptr: u64) -> Result<u32, Refusal> {
        let operand = IommuTestAccessPages { iova, length, uptr, ..Default::default() };
        self.test(IOMMU_TEST_OP_ACCESS_PAGES, fd, &operand).map(|pinned| pinned.out_access_pages_id)
    }

    fn give_back(&self, fd: u32, access_pages_id: u32) -> Result<(), Refusal> {
        let operand = IommuTestDestroyAccessPages { access_pages_id };
        self.test(IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, fd, &operand).map(|_| ())
    }

    fn copy(&self, fd: u32, iova: u64, length: u64, flags: u32) -> Result<(), Refusal> {
        let operand = IommuTestAccessRw { iova, length, uptr: SCRATCH, flags, ..Default::default() };
        self.test(IOMMU_TEST_OP_ACCESS_RW, fd, &operand).map(|_| ())
    }

    fn refs(&self, refs: u32) -> Result<(), Refusal> {
        let operand = IommuTestCheckRefs { length: 4 * PAGE, uptr: BUFFER, refs, ..Default::default() };
        self.test(IOMMU_TEST_OP_MD_CHECK_REFS, 0, &operand).map(|_| ())
    }

    fn map(&self, ioas: u32) {
        self.client.map(self.iommufd, ioas, BUFFER, IOVA, 4 * PAGE);
    }

    fn unmap(&self) {
        let mut argument =
            IommuIoasUnmap { ioas_id: self.ioas, iova: IOVA, length: 4 * PAGE, ..Command::new() };
        self.client.call(self.iommufd, &mut argument).expect("UNMAP");
    }

    fn close(&self, fd: u32) {
        self.client.vfio.release(self.client.caller.file(fd as i32).expect("a file"));
    }
}

const PINS: u32 = MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES;

#[test]
fn an_access_pins_pages_until_they_are_unmapped() {
    let vfio = with_tests();
    let process = Process::new(&vfio);
    let before = state(&vfio);
    let fd = process.access(process.ioas, PINS).expect("an access");
    process.map(process.ioas);
    let first = process.pin(fd, IOVA, 4 * PAGE, BUFFER).expect("pinned");
    let second = process.pin(fd, IOVA + PAGE, 1, 0).expect("any page will do");
    assert_eq!([first, second], [0, 1]);
    process.refs(1).expect("each page is pinned once");
    process.give_back(fd, first).unwrap();
    assert_refused!(process.give_back(fd, first), ENOENT, "test.access-item");
    assert_refused!(process.refs(1), EIO, "test.refs");
    assert_refused!(process.pin(fd, IOVA, PAGE, BUFFER + PAGE), EBADE, "test.pages");
    assert_refused!(process.pin(fd, IOVA, PAGE, 0x1000_0000), EFAULT, "test.memory");
    assert_refused!(process.pin(fd, IOVA + 4 * PAGE, PAGE, 0), ENOENT, "access.unmapped");
    assert_refused!(process.pin(fd, IOVA + 1, PAGE, 0), EINVAL, "access.pages");
    assert_refused!(process.pin(fd, IOVA, 0, 0), EINVAL, "access.length");
    assert_refused!(process.pin(fd, IOVA, (16 << 20) + 1, 0), ENOMEM, "test.access-length");
    process.unmap();
    assert_refused!(process.give_back(fd, second), ENOENT, "test.access-item");
    process.refs(0).expect("nothing is pinned");
    process.map(process.ioas);
    assert_eq!(process.pin(fd, IOVA, PAGE, BUFFER), Ok(2), "numbers are not given out again");
    assert_refused!(process.client.destroy(process.iommufd, process.ioas), EBUSY, "destroy.ioas-in-use");
    process.close(fd);
    process.refs(0).expect("it has let go");
    process.unmap();
    assert_eq!(state(&vfio), before);
}

#[test]
fn an_access_copies_whatever_is_mapped() {
    let vfio = with_tests();
    let process = Process::new(&vfio);
    let fd = process.access(process.ioas, 0).expect("an access that does not pin");
    let memory = &process.client.caller;
    let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE;
    let mut map = IommuIoasMap {
        flags,
        ioas_id: process.ioas,
        user_va: BUFFER + 5,
        length: PAGE + 1,
        iova: 7,
        ..Command::new()
    };
    process.client.call(process.iommufd, &mut map).expect("nothing needs pages");
    memory.write(BUFFER + PAGE, b"0123456789").unwrap();
    process.copy(fd, PAGE + 2, 6, 0).expect("read");
    let mut bytes = [0; 6];
    memory.read(SCRATCH, &mut bytes).unwrap();
    assert_eq!(&bytes, b"012345");
    assert_refused!(process.copy(fd, PAGE + 2, 7, 0), ENOENT, "access.unmapped");
    assert_refused!(process.copy(fd, 7, 1, MOCK_ACCESS_RW_WRITE), EPERM, "access.rights");
    assert_refused!(process.copy(fd, 7, 0, 0), EINVAL, "access.length");
    assert_refused!(process.copy(fd, 7, 1, 1 << 1), EOPNOTSUPP, "test.access-flags");
    // The first area, and an offset there.
    process.copy(fd, (PAGE - 5) << 32, 1, MOCK_FLAGS_ACCESS_SYZ | MOCK_ACCESS_RW_SLOW_PATH).expect("read");
    memory.read(SCRATCH, &mut bytes).unwrap();
    assert_eq!(bytes[0], b'0');
    assert_refused!(process.pin(fd, 7, 1, 0), EOPNOTSUPP, "test.access-pins");
    assert_refused!(process.access(process.ioas, PINS), EADDRINUSE, "attach.alignment");

    let other = process.client.ioas(process.iommufd);
    process.map(other);
    let replace = |ioas_id| {
        process.test(IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, fd, &IommuTestAccessReplaceIoas { ioas_id })
    };
    replace(other).expect("another IOAS");
    memory.write(SCRATCH, b"new").unwrap();
    process.copy(fd, IOVA + PAGE - 1, 3, MOCK_ACCESS_RW_WRITE).expect("written");
    memory.read(BUFFER + PAGE - 1, &mut bytes).unwrap();
    assert_eq!(&bytes[..3], b"new");
    assert_refused!(replace(9999), ENOENT, "ioas.unknown");
}

#[test]
fn what_is_pinned_is_reached_where_it_is_pinned_unless_by_its_own_process() {
    let vfio = with_tests();
    let process = Process::new(&vfio);
    let fd = process.access(process.ioas, 0).expect("an access");
    let memory = &process.client.caller;
    memory.write(BUFFER, b"pinned").unwrap();
    let made = process.test(IOMMU_TEST_OP_MOCK_DOMAIN, process.ioas, &IommuTestMockDomainFlags::default());
    made.expect("a device");
    process.map(process.ioas);
    // The process has other memory at these addresses now.
    vfio.host().ram(|ram| ram.map(memory.task, BUFFER, 4, Layout::Contiguous, true));
    memory.write(BUFFER, b"newer.").unwrap();
    let read = |flags| {
        process.copy(fd, IOVA, 6, flags).expect("read");
        let mut bytes = [0; 6];
        memory.read(SCRATCH, &mut bytes).map(|()| bytes)
    };
    assert_eq!(read(0).as_ref(), Ok(b"newer."));
    assert_eq!(read(MOCK_ACCESS_RW_SLOW_PATH).as_ref(), Ok(b"pinned"));
    let mut unmap = IommuIoasUnmap { ioas_id: process.ioas, iova: IOVA, length: 4 * PAGE, ..Command::new() };
    process.client.call(process.iommufd, &mut unmap).expect("UNMAP");
}

#[test]
fn the_file_of_an_access_is_for_tests_alone() {
    let vfio = with_tests();
    let mut process = Process::new(&vfio);
    assert_refused!(process.access(9999, PINS), ENOENT, "ioas.unknown");
    assert_refused!(process.access(process.ioas, 2), EOPNOTSUPP, "test.access-flags");
    let (_, other) = process.client.iommufd();
    for descriptor in [other as u32, 99] {
        assert_refused!(process.copy(descriptor, 0, 1, 0), EBADFD, "test.access");
    }
    let room = process.client.caller.descriptor_limit;
    process.client.caller.descriptor_limit = 0;
    let before = state(&vfio);
    assert_refused!(process.access(process.ioas, PINS), ENOMEM, "test.access-descriptor");
    assert_eq!(state(&vfio), before, "what is refused leaves no access");
    process.client.caller.descriptor_limit = room;

    let fd = process.access(process.ioas, PINS).expect("an access");
    let file = process.client.caller.file(fd as i32).expect("a file");
    assert_refused!(process.client.raw(file, IOMMU_DESTROY, &mut [0; 8]), ENOTTY, "test.file-ioctl");
    let ctx = process.client.caller.ctx();
    assert_refused!(vfio.read_stream(&ctx, file, ARGUMENT, 1), EINVAL, "test.file-read");
    assert_refused!(vfio.write_stream(&ctx, file, &[0]), EINVAL, "test.file-read");
    assert_refused!(process.client.read(file, 0, 1), ESPIPE, "test.file-position");
    assert_refused!(process.client.write(file, 0, &[0]), ESPIPE, "test.file-position");
    assert_refused!(vfio.seek(file, Whence::Start, 0), ESPIPE, "file.seek");
    let request = subsystem::MapRequest::shared(0, PAGE);
    assert_refused!(vfio.map(&process.client.caller.ctx(), file, request), ENODEV, "test.file-map");
    // The file keeps the context.
    vfio.release(process.iommufd);
    assert_eq!(vfio.usage().contexts, 2);
    vfio.release(file);
    assert_eq!(vfio.usage().contexts, 1);
}
