//! Fault queues: their objects, their files, and the page tables that name them.

use sys::{Readiness, Result, Suite};
use uapi::Command;
use uapi::iommufd::*;
use zerocopy::IntoBytes;

use crate::call::fault_queue;
use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Outcome, Way};
use crate::space::{Space, UNKNOWN};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-097", |f| {
            let space = f.bound_space()?;
            let (id, _queue) = fault_queue(f.sys, space.iommufd())?;
            answer(f.attach(space.device()?, id))
        }),
        case("B-391", |f| {
            let iommufd = f.iommufd()?;
            let (id, _queue) = fault_queue(f.sys, &iommufd)?;
            answer(f.destroy(&iommufd, id))
        }),
        case("B-392", |f| {
            let iommufd = f.iommufd()?;
            let (id, queue) = fault_queue(f.sys, &iommufd)?;
            drop(queue);
            answer(f.destroy(&iommufd, id))
        }),
        case("B-393", |f| read(f, 40)),
        case("B-394", |f| read(f, 39)),
        case("B-395", |f| {
            let (_, queue) = fault_queue(f.sys, &f.iommufd()?)?;
            let response = IommuHwptPageResponse { cookie: UNKNOWN, code: IOMMUFD_PAGE_RESP_SUCCESS };
            answer(f.sys.write_stream(&queue, response.as_bytes()).map(|written| written as u64))
        }),
        case("B-396", |f| {
            let (_, queue) = fault_queue(f.sys, &f.iommufd()?)?;
            Ok(Got::equal(Readiness::OUT, f.sys.poll(&queue)?))
        }),
        case("B-397", |f| {
            answer(f.call(&f.iommufd()?, &mut IommuFaultAlloc { flags: 1, ..IommuFaultAlloc::new() }))
        }),
        case("B-405", |f| {
            let space = f.bound_space()?;
            let (id, _queue) = fault_queue(f.sys, space.iommufd())?;
            answer(page_table(f, &space, id)?)
        }),
        case("B-406", |f| {
            let space = f.bound_space()?;
            answer(page_table(f, &space, UNKNOWN)?)
        }),
    ]
}

/// Reads from a fault queue where nothing is queued.
fn read<S: Suite>(f: &Fixture<S>, length: usize) -> Outcome {
    let (_, queue) = fault_queue(f.sys, &f.iommufd()?)?;
    answer(f.sys.read_stream(&queue, &mut vec![0; length]).map(|read| read as u64))
}

/// Makes a page table that names a fault queue.
fn page_table<S: Suite>(f: &Fixture<S>, space: &Space<'_, S>, fault_id: u32) -> Way<Result<u32>> {
    let (flags, dev_id) = (IOMMU_HWPT_FAULT_ID_VALID, space.devid()?);
    let mut alloc = IommuHwptAlloc { flags, dev_id, pt_id: space.id, fault_id, ..IommuHwptAlloc::new() };
    Ok(f.call(space.iommufd(), &mut alloc))
}
