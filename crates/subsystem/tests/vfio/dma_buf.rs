//! Parts of BARs as dma-bufs: exporting them, mapping them, and when they are gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use subsystem::{FileId, MapRequest, Ready, Refusal, Symbol, Whence};
use uapi::Command;
use uapi::iommufd::*;
use uapi::iommufd_test::*;
use uapi::vfio::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::client::{Client, Vfio, assert_refused, machine, machine_with};
use crate::support::function::{TestFunction, express};
use crate::support::host::ARGUMENT;

const PAGE: u64 = 4096;
const GET: u32 = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
/// Where the first BAR of [`TestFunction::express`] is.
const BAR: u64 = 0x80_0000_4000;

/// Machines of a kernel that exports dma-bufs.
pub(crate) fn exporting(functions: &[TestFunction]) -> Arc<Vfio> {
    machine_with(&[Symbol::PciP2pdma, Symbol::DmaSharedBuffer], functions)
}

/// FEATURE with the payload of this feature.
fn feature(
    client: &Client,
    device: FileId,
    flags: u32,
    wanted: VfioDeviceFeatureDmaBuf,
    ranges: &[(u64, u64)],
) -> Result<u32, Refusal> {
    let ranges: Vec<VfioRegionDmaRange> =
        ranges.iter().map(|&(offset, length)| VfioRegionDmaRange { offset, length }).collect();
    let body = [wanted.as_bytes(), ranges.as_bytes()].concat();
    let argument = VfioDeviceFeature { argsz: (8 + body.len()) as u32, flags };
    client.raw(device, VFIO_DEVICE_FEATURE, &mut [argument.as_bytes(), &body].concat())
}

fn wanted(region_index: u32, nr_ranges: u32) -> VfioDeviceFeatureDmaBuf {
    VfioDeviceFeatureDmaBuf { region_index, open_flags: 0, flags: 0, nr_ranges }
}

/// Exports parts of the first BAR; the descriptor.
pub(crate) fn export(client: &Client, device: FileId, ranges: &[(u64, u64)]) -> i32 {
    let fd = feature(client, device, GET, wanted(0, ranges.len() as u32), ranges).unwrap();
    fd.cast_signed()
}

/// A context with an attached device.
struct Attached<'a> {
    client: Client<'a>,
    device: FileId,
    iommufd: FileId,
    ioas: u32,
}

impl<'a> Attached<'a> {
    fn new(vfio: &'a Vfio) -> Self {
        let mut client = Client::new(vfio);
        let (iommufd, fd) = client.iommufd();
        let device = client.open(0);
        client.bind(device, fd).unwrap();
        let ioas = client.ioas(iommufd);
        client.attach(device, ioas).unwrap();
        Attached { client, device, iommufd, ioas }
    }

    fn map(&self, fd: i32, iova: u64, start: u64, length: u64) -> Result<u32, Refusal> {
        let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE;
        let mut map =
            IommuIoasMapFile { flags, ioas_id: self.ioas, fd, start, length, iova, ..Command::new() };
        self.client.call(self.iommufd, &mut map)
    }

    fn physical(&self, iova: u64) -> Result<u64, Refusal> {
        self.client.physical(self.iommufd, self.ioas, iova)
    }

    fn unmap(&self, iova: u64) -> Result<u32, Refusal> {
        let mut unmap = IommuIoasUnmap { ioas_id: self.ioas, iova, length: PAGE, ..Command::new() };
        self.client.call(self.iommufd, &mut unmap)
    }
}

#[test]
fn b200_to_b203_what_is_exported() {
    let functions = [TestFunction::express(), TestFunction::conventional()];
    let vfio = exporting(&functions);
    let (mut client, device) = Client::bound(&vfio);
    let ask = |flags, wanted, ranges: &[(u64, u64)]| feature(&client, device, flags, wanted, ranges);
    let one = [(0, PAGE)];
    assert_eq!(ask(GET | VFIO_DEVICE_FEATURE_PROBE, wanted(0, 1), &one), Ok(0));
    let set = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF;
    assert_refused!(ask(set, wanted(0, 1), &one), EINVAL, "feature.direction");
    assert_refused!(ask(VFIO_DEVICE_FEATURE_DMA_BUF, wanted(0, 1), &one), EINVAL, "feature.no-action");
    assert_refused!(ask(GET | 1 << 19, wanted(0, 1), &one), EINVAL, "feature.flags");
    let mut short = VfioDeviceFeature { argsz: 23, flags: GET }.as_bytes().to_vec();
    short.resize(24, 0);
    assert_refused!(client.raw(device, VFIO_DEVICE_FEATURE, &mut short), EINVAL, "feature.payload");
    assert_refused!(ask(GET, wanted(0, 0), &[]), EINVAL, "dma-buf.fields");
    let flagged = VfioDeviceFeatureDmaBuf { flags: 1, ..wanted(0, 1) };
    assert_refused!(ask(GET, flagged, &one), EINVAL, "dma-buf.fields");
    for absent in [1, 6, 7, 99] {
        assert_refused!(ask(GET, wanted(absent, 1), &one), ENODEV, "dma-buf.region");
    }
    for bad in [(0, 0), (0x800, PAGE), (0, 0x800)] {
        assert_refused!(ask(GET, wanted(0, 1), &[bad]), EINVAL, "dma-buf.alignment");
    }
    for beyond in [(express::BAR, PAGE), (0, express::BAR + PAGE), (0u64.wrapping_sub(PAGE), PAGE)] {
        assert_refused!(ask(GET, wanted(0, 1), &[beyond]), EINVAL, "dma-buf.bounds");
    }
    let fd = export(&client, device, &one);
    let file = client.caller.file(fd).unwrap();
    assert_refused!(client.read(file, 0, 4), ESPIPE, "dma-buf.position");
    assert_refused!(client.write(file, 0, &[0; 4]), ESPIPE, "dma-buf.position");
    let ctx = client.caller.ctx();
    assert_refused!(vfio.read_stream(&ctx, file, ARGUMENT, 4), EINVAL, "dma-buf.access");
    assert_refused!(vfio.write_stream(&ctx, file, &[0; 4]), EINVAL, "dma-buf.access");
    assert_refused!(vfio.map(&ctx, file, MapRequest::shared(0, PAGE)), EINVAL, "dma-buf.access");
    assert_eq!(vfio.poll(file), Ready { read: true, write: true });
    assert_eq!(vfio.seek(file, Whence::End, 0), Ok(one[0].1));
    assert_eq!(vfio.seek(file, Whence::Start, 0), Ok(0));
    for (whence, offset) in [(Whence::End, -1), (Whence::Start, 1), (Whence::Start, -1), (Whence::Current, 0)]
    {
        assert_refused!(vfio.seek(file, whence, offset), EINVAL, "dma-buf.seek");
    }
    assert_refused!(client.raw(file, VFIO_DEVICE_RESET, &mut []), ENOTTY, "dma-buf.ioctl");
    let before = vfio.usage().files;
    vfio.release(file);
    assert_eq!(vfio.usage().files, before - 1);
    let (_, iommufd) = client.iommufd();
    let other = client.open(1);
    client.bind(other, iommufd).unwrap();
    assert_refused!(feature(&client, other, GET, wanted(2, 1), &one), EINVAL, "dma-buf.io");
}

#[test]
fn b636_a_kernel_that_does_not_export() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    assert_refused!(feature(&client, device, GET, wanted(0, 1), &[(0, PAGE)]), ENOTTY, "feature.unknown");
}

#[test]
fn b544_b547_b548_b700_what_is_mapped() {
    let vfio = exporting(&[TestFunction::express()]);
    let it = Attached::new(&vfio);
    let fd = export(&it.client, it.device, &[(PAGE, 2 * PAGE)]);
    assert_refused!(it.map(fd, PAGE, PAGE, 2 * PAGE), EINVAL, "map-file.bounds");
    it.map(fd, PAGE, PAGE, PAGE).unwrap();
    assert_eq!(it.physical(PAGE), Ok(BAR + 2 * PAGE));
    let several = export(&it.client, it.device, &[(0, PAGE), (2 * PAGE, PAGE)]);
    assert_refused!(it.map(several, 8 * PAGE, 0, PAGE), EOPNOTSUPP, "map-file.ranges");
    it.client.set_config(it.device, 4, 2, 0);
    assert_refused!(it.map(fd, 8 * PAGE, 0, PAGE), ENODEV, "map-file.revoked");
    it.unmap(PAGE).unwrap();
}

#[test]
fn b545_b546_b694_to_b696_revoked_for_good() {
    const SET: u32 = VFIO_DEVICE_FEATURE_SET;
    let low_power = |it: &Attached, feature| {
        it.client.call(it.device, &mut VfioDeviceFeature { argsz: 8, flags: SET | feature }).unwrap();
    };
    let revoke: [&dyn Fn(&Attached); 3] = [
        &|it| {
            it.client.set_config(it.device, 4, 2, 0);
            assert_refused!(it.physical(PAGE), EINVAL, "get-pa.revoked");
            it.client.set_config(it.device, 4, 2, 2);
        },
        &|it| assert_eq!(it.client.raw(it.device, VFIO_DEVICE_RESET, &mut []), Ok(0)),
        &|it| {
            low_power(it, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
            low_power(it, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
        },
    ];
    for revoke in revoke {
        let vfio = exporting(&[TestFunction::express()]);
        let it = Attached::new(&vfio);
        let fd = export(&it.client, it.device, &[(0, PAGE)]);
        it.map(fd, PAGE, 0, PAGE).unwrap();
        assert_eq!(it.physical(PAGE), Ok(BAR));
        revoke(&it);
        assert_refused!(it.physical(PAGE), EINVAL, "get-pa.revoked");
        it.map(fd, 2 * PAGE, 0, PAGE).expect("b695: mapped again, it is there again");
        assert_eq!(it.physical(2 * PAGE), Ok(BAR));
        it.unmap(PAGE).expect("b699: its IOVA is free again");
        it.map(fd, PAGE, 0, PAGE).unwrap();
    }
}

/// Each of these was measured on Linux 7.3.
#[test]
fn when_it_can_be_mapped_again() {
    const ENTRY: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
    const POWER_STATE: u16 = express::POWER + 4;
    let vfio = exporting(&[TestFunction::express()]);
    let it = Attached::new(&vfio);
    let set = |feature| {
        let argument = VfioDeviceFeature { flags: VFIO_DEVICE_FEATURE_SET | feature, ..Command::new() };
        it.client.sized(it.device, &argument, 8).map(|_| ())
    };
    let fd = export(&it.client, it.device, &[(0, PAGE)]);
    let can_be_mapped = |fd| {
        it.map(fd, PAGE, 0, PAGE)?;
        it.unmap(PAGE).map(|_| ())
    };
    assert_eq!(can_be_mapped(fd), Ok(()));
    assert_eq!(set(ENTRY), Ok(()));
    assert_refused!(can_be_mapped(fd), ENODEV, "map-file.revoked");
    let new = export(&it.client, it.device, &[(0, PAGE)]);
    assert_eq!(can_be_mapped(new), Ok(()), "it was exported in low power");
    for restore in [
        (&|| it.client.set_config(it.device, 4, 2, 2)) as &dyn Fn(),
        &|| it.client.set_config(it.device, POWER_STATE, 2, 0),
        &|| assert_eq!(it.client.raw(it.device, VFIO_DEVICE_RESET, &mut []), Ok(0)),
        &|| assert_eq!(set(VFIO_DEVICE_FEATURE_LOW_POWER_EXIT), Ok(())),
    ] {
        assert_refused!(set(ENTRY), EINVAL, "feature.low-power");
        assert_refused!(can_be_mapped(fd), ENODEV, "map-file.revoked");
        assert_refused!(can_be_mapped(new), ENODEV, "map-file.revoked");
        restore();
        assert_eq!((can_be_mapped(fd), can_be_mapped(new)), (Ok(()), Ok(())));
    }
    it.client.set_config(it.device, 4, 2, 0);
    let off = export(&it.client, it.device, &[(0, PAGE)]);
    assert_refused!(can_be_mapped(off), ENODEV, "map-file.revoked");
    it.client.set_config(it.device, POWER_STATE, 2, 0);
    assert_refused!(can_be_mapped(off), ENODEV, "map-file.revoked");
    it.client.set_config(it.device, 4, 2, 2);
    assert_eq!(can_be_mapped(off), Ok(()));
}

#[test]
fn a_function_that_wakes_up_has_its_exports_revoked() {
    let options = [Symbol::PciP2pdma, Symbol::DmaSharedBuffer, Symbol::Pm];
    let vfio = machine_with(&options, &[TestFunction::express()]);
    let mut it = Attached::new(&vfio);
    let fd = export(&it.client, it.device, &[(0, PAGE)]);
    let (event, wakeup_eventfd) = it.client.eventfd();
    let flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
    let argument = VfioDeviceFeature { argsz: 16, flags };
    let entry = VfioDeviceLowPowerEntryWithWakeup { wakeup_eventfd, reserved: 0 };
    let mut bytes = [argument.as_bytes(), entry.as_bytes()].concat();
    assert_eq!(it.client.raw(it.device, VFIO_DEVICE_FEATURE, &mut bytes), Ok(0));
    assert!(it.client.read(it.device, 0, 4).is_ok());
    assert_eq!(event.load(Ordering::Relaxed), 1);
    assert_refused!(it.map(fd, PAGE, 0, PAGE), ENODEV, "map-file.revoked");
    it.client.set_config(it.device, 4, 2, 2);
    it.map(fd, PAGE, 0, PAGE).unwrap();
}

#[test]
fn b697_b698_closing_the_device_ends_it() {
    let vfio = exporting(&[TestFunction::express()]);
    let it = Attached::new(&vfio);
    let fd = export(&it.client, it.device, &[(0, PAGE)]);
    it.map(fd, PAGE, 0, PAGE).unwrap();
    vfio.release(it.device);
    let again = it.client.open(0);
    let iommufd = it.client.caller.install(crate::support::host::Descriptor::Ours(it.iommufd));
    it.client.bind(again, iommufd).unwrap();
    it.client.attach(again, it.ioas).unwrap();
    assert_refused!(it.physical(PAGE), EINVAL, "get-pa.revoked");
    assert_refused!(it.map(fd, 2 * PAGE, 0, PAGE), ENODEV, "map-file.revoked");
    let new = export(&it.client, again, &[(0, PAGE)]);
    it.map(new, 2 * PAGE, 0, PAGE).unwrap();
    vfio.release(it.client.caller.file(new).unwrap());
    assert_eq!(it.physical(2 * PAGE), Ok(BAR), "the file is not needed any more");
    assert_eq!(vfio.host().in_use().pinned_pages, 0);
}

#[test]
fn without_a_descriptor_nothing_is_exported() {
    let vfio = exporting(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let files = vfio.usage().files;
    client.caller.descriptor_limit = client.caller.descriptors();
    let refused = feature(&client, device, GET, wanted(0, 1), &[(0, PAGE)]);
    assert_refused!(refused, EMFILE, "dma-buf.descriptor");
    assert_eq!(vfio.usage().files, files);
}

/// Asks for an operation of the self-tests.
fn test<T: FromBytes + IntoBytes + Immutable>(
    it: &Attached<'_>,
    op: u32,
    operand: &T,
) -> Result<u32, Refusal> {
    let mut command = IommuTestCmd { op, ..Command::new() };
    command.put(operand);
    it.client.call(it.iommufd, &mut command)
}

fn get(it: &Attached<'_>, length: u32) -> Result<u32, Refusal> {
    test(it, IOMMU_TEST_OP_DMABUF_GET, &IommuTestDmabufGet { length, open_flags: 0 })
}

fn revoke(it: &Attached<'_>, dmabuf_fd: i32, revoked: bool) -> Result<u32, Refusal> {
    let operand = IommuTestDmabufRevoke { dmabuf_fd, revoked: revoked.into() };
    test(it, IOMMU_TEST_OP_DMABUF_REVOKE, &operand)
}

#[test]
fn memory_of_a_self_test() {
    let options = [
        Symbol::PciP2pdma,
        Symbol::DmaSharedBuffer,
        Symbol::DebugKernel,
        Symbol::FaultInjection,
        Symbol::RuntimeTestingMenu,
        Symbol::IommufdTest,
    ];
    let vfio = machine_with(&options, &[TestFunction::express()]);
    let mut it = Attached::new(&vfio);
    for length in [0, 512 * PAGE as u32 + 1] {
        assert_refused!(get(&it, length), EINVAL, "test.buffer-length");
    }
    // The answer is not the descriptor, in Linux either.
    assert_eq!(get(&it, 2 * PAGE as u32 - 1), Ok(0));
    let fd = it.client.caller.descriptors() as i32 - 1;
    let file = it.client.caller.file(fd).expect("a dma-buf");
    assert_eq!(vfio.seek(file, Whence::End, 0), Ok(2 * PAGE));
    assert_refused!(it.map(fd, PAGE, PAGE, 2 * PAGE), EINVAL, "map-file.bounds");
    it.map(fd, PAGE, PAGE, PAGE).unwrap();
    it.map(fd, 8 * PAGE, 0, PAGE).unwrap();
    let address = it.physical(8 * PAGE).expect("it is somewhere");
    assert_eq!(it.physical(PAGE), Ok(address + PAGE));

    // What is mapped stays revoked; what is mapped after it was given back is there.
    revoke(&it, fd, true).unwrap();
    assert_refused!(it.physical(PAGE), EINVAL, "get-pa.revoked");
    assert_refused!(it.map(fd, 4 * PAGE, 0, PAGE), ENODEV, "map-file.revoked");
    revoke(&it, fd, false).unwrap();
    it.map(fd, 4 * PAGE, 0, PAGE).unwrap();
    assert_eq!(it.physical(4 * PAGE), Ok(address));
    assert_refused!(it.physical(8 * PAGE), EINVAL, "get-pa.revoked");

    let bar = export(&it.client, it.device, &[(0, PAGE)]);
    assert_refused!(revoke(&it, bar, true), EOPNOTSUPP, "test.buffer-other");
    let (_, context) = it.client.iommufd();
    assert_refused!(revoke(&it, context, true), EINVAL, "test.buffer-file");
    assert_refused!(revoke(&it, 1000, true), EBADF, "test.buffer-descriptor");
    it.client.caller.descriptor_limit = it.client.caller.descriptors();
    assert_refused!(get(&it, 1), EMFILE, "dma-buf.descriptor");
}
