//! Transfers in the modes in which the device comes from its group.

use ioasis::{Device, Mode, Options};
use machine::{
    CAPABILITIES, DeviceSpec, Iommu, IommuSpec, Machine, MachineSpec, MemorySpec, ModelSpec, NvmeBacking,
    Size,
};
use nvme::{Completions, Controller, Error, Stream};

use crate::common::*;

const MODES: [Mode; 2] = [Mode::Group, Mode::GroupNoiommu];

#[test]
fn streams_through_a_group() {
    for (mode, layout) in MODES.into_iter().flat_map(|mode| LAYOUTS.map(|layout| (mode, layout))) {
        let backing = NvmeBacking::Memory(Size(8 << 20));
        let iommu = match mode {
            Mode::Group => Iommu::Translating(IommuSpec::default()),
            _ => Iommu::None,
        };
        let spec = MachineSpec {
            devices: vec![DeviceSpec::new(ADDRESS.parse().unwrap(), ModelSpec::Nvme(backing))],
            iommu,
            memory: MemorySpec { layout, ..MemorySpec::default() },
            // Who may not see physical addresses has no use for a group without an IOMMU.
            capabilities: CAPABILITIES.map(String::from).to_vec(),
            ..MachineSpec::default()
        };
        let machine = Machine::from_spec(spec).unwrap();
        let unused = machine.usage();
        let options = Options::new().allow_noiommu(true).mode(mode);
        let device = Device::open(&machine, ADDRESS.parse().unwrap(), &options).unwrap();
        let controller = Controller::new(device, 1).unwrap();
        let namespace = controller.namespaces().unwrap()[0];
        let mut queue = controller.queue(16, Completions::Interrupt).unwrap();
        let mut stream = Stream::new(&controller, &mut queue, namespace).unwrap();
        let bytes = pattern(3 << 20, 7);
        let mut left = &bytes[..];
        stream
            .write(100, (bytes.len() / BLOCK) as u64, |piece| {
                let (now, later) = left.split_at(piece.len());
                piece.copy_from_slice(now);
                left = later;
                Ok::<(), Error>(())
            })
            .unwrap();
        assert!(stored(&machine, 100 * BLOCK, bytes.len()) == bytes, "{mode:?} {layout:?}");
        let mut read = Vec::new();
        stream
            .read(100, (bytes.len() / BLOCK) as u64, |piece| {
                read.extend_from_slice(piece);
                Ok::<(), Error>(())
            })
            .unwrap();
        assert!(read == bytes, "{mode:?} {layout:?}");
        drop(stream);
        drop(queue);
        drop(controller);
        assert_eq!(machine.findings(), [], "{mode:?} {layout:?}");
        assert_eq!(machine.usage(), unused);
    }
}
