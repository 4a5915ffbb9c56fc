//! Memory of a vIOMMU that the program maps.

use subsystem::{MapRequest, Mapped, MappedMemory};

use super::*;
use crate::client::{assert_refused, state};

impl Guest<'_> {
    /// A vIOMMU with memory that begins with a word; its id, and where and how long the memory is.
    fn viommu_with(&self, in_data: u32) -> (u32, u64, u64) {
        self.data(&IommuViommuSelftest { in_data, ..Default::default() });
        let mut argument = IommuViommuAlloc { data_len: 24, data_uptr: DATA, ..self.viommu_argument() };
        self.call(&mut argument).expect("a vIOMMU");
        let mut reply = [0; 24];
        self.client.caller.read(DATA, &mut reply).unwrap();
        let reply = IommuViommuSelftest::read_from_bytes(&reply).unwrap();
        (argument.out_viommu_id, reply.out_mmap_offset, reply.out_mmap_length)
    }

    fn map_file(&self, offset: u64, length: u64) -> Result<Mapped, Refusal> {
        let request = MapRequest::shared(offset, length);
        self.client.vfio.map(&self.client.caller.ctx(), self.iommufd, request)
    }

    /// Maps the memory of a vIOMMU, as the host does when a program asks for it.
    fn map_viommu(&self, offset: u64, length: u64) -> MappedMemory {
        let Ok(Mapped::Memory(memory)) = self.map_file(offset, length) else { panic!("it can be mapped") };
        self.client.vfio.set_mapped(memory, true);
        memory
    }
}

#[test]
fn memory_is_mapped_as_a_whole_at_its_offset() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    assert_refused!(guest.map_file(0, 8192), ENXIO, "iommufd.map");
    let (viommu, offset, length) = guest.viommu_with(0xbeef);
    assert_eq!((offset, length), (4096, 8192));
    for (offset, length) in [(8192, 8192), (12288, 8192), (4096, 4096), (4096, 16384), (0, 8192)] {
        assert_refused!(guest.map_file(offset, length), ENXIO, "iommufd.map");
    }
    let (second, behind, _) = guest.viommu_with(7);
    assert_eq!(behind, 4096 + 8192);
    guest.destroy(viommu).unwrap();
    let (third, offset, _) = guest.viommu_with(8);
    assert_eq!((third, offset), (viommu, 4096), "the offset is free again");
    let memory = guest.map_viommu(behind, 8192);
    assert_eq!(memory.object, second);
    let mut word = [0; 4];
    vfio.mapped_read(memory, 0, &mut word);
    assert_eq!(word, [7, 0, 0, 0]);
    vfio.set_mapped(memory, false);
    guest.close(&[]);
}

#[test]
fn a_viommu_stays_while_its_memory_is_mapped() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let (viommu, offset, length) = guest.viommu_with(0xbeef);
    let memory = guest.map_viommu(offset, length);
    vfio.mapped_write(memory, 8190, &[1, 2, 3, 4]);
    let mut bytes = [9; 4];
    vfio.mapped_read(memory, 8190, &mut bytes);
    assert_eq!(bytes, [1, 2, 0, 0], "there is nothing behind its end");
    assert_refused!(guest.destroy(viommu), EBUSY, "destroy.viommu-in-use");
    vfio.set_mapped(memory, false);
    guest.destroy(viommu).unwrap();
    assert_refused!(guest.map_file(offset, length), ENXIO, "iommufd.map");
    guest.close(&[]);
}

#[test]
fn a_viommu_that_there_is_no_memory_for_is_not_made() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    guest.data(&IommuViommuSelftest::default());
    let before = state(&vfio);
    let mut argument = IommuViommuAlloc { data_len: 24, data_uptr: DATA, ..guest.viommu_argument() };
    vfio.host().fail_allocation(Some(0));
    assert_refused!(guest.call(&mut argument), ENOMEM, "iommufd.no-memory");
    vfio.host().fail_allocation(None);
    assert_eq!(state(&vfio), before);
    guest.close(&[]);
}
