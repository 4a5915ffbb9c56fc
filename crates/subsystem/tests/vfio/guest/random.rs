//! What guests make, in random orders with random ids: an errno or a result, never a panic, and nothing is left after closing.

use subsystem::{MapRequest, Mapped, MappedMemory};

use super::*;
use crate::random::Random;

/// What a run has open.
#[derive(Default)]
struct Open {
    queues: Vec<FileId>,
    mapped: Vec<MappedMemory>,
}

/// What a call came to is of no interest.
fn done<T>(_: T) {}

/// Makes a call.
fn step(guest: &mut Guest<'_>, open: &mut Open, random: &mut Random) {
    let id = |random: &mut Random| random.below(16) as u32;
    let flags = |random: &mut Random| random.pick(&[0, 0, IOMMU_HWPT_ALLOC_PASID, 1, 2, 1 << 31]);
    let (first, second) = (id(random), id(random));
    let number = random.below(3);
    match random.below(19) {
        0 => done(guest.destroy(first)),
        1 => done(guest.destroy(second)),
        2 => done(guest.nested(first, flags(random))),
        3 => done(guest.faulting(first, flags(random), second)),
        4 => done(guest.table(flags(random))),
        5 => {
            let operand =
                IommuTestMockDomainFlags { dev_flags: MOCK_FLAGS_DEVICE_PASID, ..Default::default() };
            if let Ok(made) = guest.test(IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, guest.ioas, operand) {
                (guest.stdev, guest.device) = (made.out_stdev_id, made.out_idev_id);
            }
        }
        6 => done(guest.replace(first)),
        7 => done(guest.call(&mut IommuViommuAlloc { hwpt_id: first, ..guest.viommu_argument() })),
        8 => done(guest.vdevice(first, second, number)),
        9 => open.queues.extend(guest.events(first, 1 + number as u32).map(|(_, file)| file)),
        10 => open.queues.extend(guest.client.fault_queue(guest.iommufd).map(|(_, file)| file)),
        11 => done(guest.hw_queue(first, number as u32, IOVA + number * 2048, 2048)),
        12 => done(guest.unmap(IOVA, 2 * 4096)),
        13 => {
            let operand = IommuTestPasidAttach { pasid: random.pick(&[0, 1, 1024]), pt_id: first };
            let op = random.pick(&[
                IOMMU_TEST_OP_PASID_ATTACH,
                IOMMU_TEST_OP_PASID_REPLACE,
                IOMMU_TEST_OP_PASID_DETACH,
            ]);
            done(guest.test(op, guest.stdev, operand));
        }
        14 => {
            let operand = IommuTestTriggerIopf { dev_id: first, pasid: number as u32, ..Default::default() };
            done(guest.test(IOMMU_TEST_OP_TRIGGER_IOPF, 0, operand));
        }
        15 => {
            let operand = IommuTestTriggerVevent { dev_id: first };
            done(guest.test(IOMMU_TEST_OP_TRIGGER_VEVENT, 0, operand));
        }
        16 => {
            let entry = IommuViommuInvalidateSelftest { flags: 0, vdev_id: number as u32, cache_id: 0 };
            done(guest.invalidate(first, IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST, &[entry]));
        }
        17 => {
            guest.data(&IommuViommuSelftest::default());
            let argument = IommuViommuAlloc { hwpt_id: first, data_len: 24, ..guest.viommu_argument() };
            done(guest.call(&mut IommuViommuAlloc { data_uptr: DATA, ..argument }));
            let request = MapRequest::shared(4096 + number * 8192, 8192);
            if let Ok(Mapped::Memory(memory)) =
                guest.client.vfio.map(&guest.client.caller.ctx(), guest.iommufd, request)
            {
                guest.client.vfio.set_mapped(memory, true);
                open.mapped.push(memory);
            }
        }
        _ => {
            for file in &open.queues {
                done(guest.read(*file, 120));
                done(guest.write(*file, &[1, 0, 0, 0, 0, 0, 0, 0]));
            }
            if open.queues.len() > 3 {
                guest.client.vfio.release(open.queues.remove(0));
            }
            if let Some(memory) = open.mapped.pop() {
                guest.client.vfio.set_mapped(memory, false);
            }
        }
    }
}

#[test]
fn random_orders() {
    for seed in 1..=if cfg!(miri) { 2 } else { 60 } {
        let mut random = Random::new(seed);
        let vfio = kernel();
        let mut guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_PASID);
        guest.map_memory(2, Layout::Contiguous);
        let mut open = Open::default();
        for _ in 0..400 {
            if random.below(8) == 0 {
                vfio.host().fail_allocation(Some(random.below(4)));
            }
            step(&mut guest, &mut open, &mut random);
            vfio.host().fail_allocation(None);
        }
        open.mapped.iter().for_each(|memory| vfio.set_mapped(*memory, false));
        guest.close(&open.queues);
    }
}
