//! Random calls with random arguments: an errno or a result, never a panic, and nothing is left after closing.

use subsystem::{Access, FileId, Function, MapRequest, NodeKind, Usage};
use uapi::iommufd::*;
use uapi::vfio::*;
use zerocopy::FromBytes;

use crate::client::{Client, REGION, Vfio, device_node, machine};
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, Descriptor};
use crate::support::memory::Layout;

/// Numbers that look random and are the same in every run (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// Other numbers for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number that is likely to matter somewhere.
    fn number(&mut self) -> u32 {
        match self.below(8) {
            0 => u32::MAX - self.below(3) as u32,
            1 => 1 << self.below(32),
            2 => self.next() as u32,
            _ => self.below(6) as u32,
        }
    }
}

const COMMANDS: [u32; 16] = [
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_SET_IRQS,
    VFIO_DEVICE_SET_IRQS,
    VFIO_DEVICE_RESET,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_PCI_HOT_RESET,
    VFIO_DEVICE_IOEVENTFD,
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_BIND_IOMMUFD,
    VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    VFIO_DEVICE_DETACH_IOMMUFD_PT,
    IOMMU_FAULT_QUEUE_ALLOC,
    IOMMU_HWPT_ALLOC,
    IOMMU_DESTROY,
];

/// An argument whose size field is plausible, and whose other words are numbers of interest.
fn argument(random: &mut Random) -> [u8; 64] {
    let mut bytes = [0; 64];
    for word in bytes.chunks_exact_mut(4) {
        word.copy_from_slice(&random.number().to_le_bytes());
    }
    let size = random.pick(&[8, 12, 15, 16, 20, 24, 28, 32, 40, 64]) as u32;
    bytes[..4].copy_from_slice(&size.to_le_bytes());
    if random.below(2) == 0 {
        // Flags of SET_IRQS that have a meaning together.
        let flags = random.pick(&[1, 2, 4]) | random.pick(&[8, 16, 32, 32]);
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(flags));
    }
    if random.below(4) == 0 {
        bytes[16..].fill(0);
    }
    if random.below(4) == 0 {
        bytes[4..].fill(0);
    }
    bytes
}

fn step(vfio: &Vfio, client: &mut Client<'_>, files: &mut Vec<FileId>, random: &mut Random) {
    let node = device_node(vfio, Function(0)).expect("a node").kind;
    let file = random.pick(files);
    let offset = random.pick(&[0, 7, 7, 7, 2, 8, 20]) * REGION + random.below(0x4010);
    let length = random.pick(&[0, 1, 2, 4, 8, 13, 64]);
    match random.below(16) {
        0 => {
            let kind = if random.below(2) == 0 { node } else { NodeKind::Iommufd };
            let access = Access { read: random.below(8) > 0, write: random.below(8) > 0 };
            if files.len() >= 12 {
                files.drain(6..).for_each(|file| vfio.release(file));
            }
            if let Ok(file) = vfio.open(&client.caller.ctx(), kind, access) {
                files.push(file);
                client.caller.install(Descriptor::Ours(file));
            }
        }
        1 => {
            let _ = client.read(file, offset, length);
        }
        2 | 3 => {
            let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            let _ = client.write(file, offset, &bytes);
        }
        4 => {
            let (shared, writable) = (random.below(4) > 0, random.below(2) > 0);
            let offset = offset & !if random.below(2) == 0 { 0xfff } else { 0 };
            let mapping = MapRequest { shared, writable, ..MapRequest::shared(offset, random.below(0x5000)) };
            let _ = vfio.map(&client.caller.ctx(), file, mapping);
        }
        5 => {
            vfio.host().function(Function(0), |function| {
                function.line = function.line.map(|_| random.below(2) == 0);
            });
            vfio.line_event(Function(0));
        }
        6 => vfio.watch_event(Function(0), subsystem::Watch::Unmask),
        _ => {
            let address =
                random.pick(&[ARGUMENT, ARGUMENT, ARGUMENT, ARGUMENT + 0xff0, 0x20_0000, 0, u64::MAX - 5]);
            let _ = subsystem::UserMemory::write(&client.caller, address, &argument(random));
            let command = random.pick(&COMMANDS);
            let result = vfio.ioctl(&client.caller.ctx(), file, command, address);
            if result.is_ok() && command == IOMMU_FAULT_QUEUE_ALLOC {
                let mut reply = [0; 16];
                subsystem::UserMemory::read(&client.caller, address, &mut reply).expect("a reply");
                let fd = IommuFaultAlloc::read_from_bytes(&reply).expect("the size").out_fault_fd;
                files.push(client.caller.file(fd as i32).expect("a file"));
            }
        }
    }
}

#[test]
fn random_calls_leave_nothing_behind() {
    let (mut bound, mut queues) = (0, 0);
    for seed in 1..=1000 {
        let mut random = Random::new(seed);
        let function = if seed % 2 == 0 { TestFunction::express() } else { TestFunction::conventional() };
        let vfio = machine(&[function]);
        let mut client = Client::new(&vfio);
        vfio.host().ram(|ram| ram.map(client.caller.task, 0x20_0000, 1, Layout::Scattered, true));
        vfio.host().ram(|ram| ram.protect(client.caller.task, 0x20_0000, false));
        let (iommufd, _) = client.iommufd();
        client.eventfd();
        client.ioas(iommufd);
        let device = client.open(0);
        let mut files = vec![iommufd, device];
        if seed % 5 != 0 {
            client.bind(device, 0).expect("bind");
        }
        for n in 0..100 {
            if n % 10 == 9 {
                vfio.host().fail_allocation(Some(random.below(4)));
            }
            step(&vfio, &mut client, &mut files, &mut random);
            vfio.host().fail_allocation(None);
        }
        bound += u32::from(vfio.host().function(Function(0), |function| function.mappings));
        queues += files.iter().filter(|file| !vfio.poll(**file).read).count();
        files.drain(..).for_each(|file| vfio.release(file));
        assert_eq!(vfio.usage(), Usage { devices: 1, groups: 1, ..Usage::default() }, "seed {seed}");
        let in_use = vfio.host().in_use();
        assert_eq!((in_use.pinned_pages, in_use.domains), (0, Default::default()), "seed {seed}");
        vfio.host().function(Function(0), |function| {
            assert_eq!((function.enabled, function.watches.len()), (None, 0), "seed {seed}");
            assert_eq!(function.command() & 4, 0, "seed {seed}");
        });
        vfio.remove(Function(0));
        assert_eq!(vfio.usage(), Usage::default());
    }
    assert!(bound > 100 && queues > 10, "the calls get somewhere: {bound} devices, {queues} fault queues");
}
