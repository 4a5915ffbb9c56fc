//! IOMMUFD: contexts, their objects, and memory mapped for devices.
//!
//! A [`Context`] is one open of `/dev/iommu`. It holds a table of objects:
//!
//! * a **device** for each device file that was bound to it, or an **access** if its driver emulates the device,
//! * an **IOAS** for each address space: which memory is mapped at which IOVA, as *areas*,
//! * an **HWPT** (page table) for each linked use of an IOAS: made by attaching a device, or by hand,
//! * a **nested HWPT** for each page table that a guest has made, over one of an IOAS,
//! * a **vIOMMU** for each IOMMU that a guest sees, with its **virtual devices** and **hardware queues**,
//! * a **queue** for each one of page faults, or of events of a vIOMMU, that was asked for, with a file of its own.
//!
//! An area is a slice of a *record*: the memory that one MAP call named. COPY makes more areas of one record. While
//! an IOAS has page tables, the pages of its areas are pinned, and mapped in the domain of each; a page is pinned once per
//! record, however many areas share it.
//!
//! The page table of a device behind an IOMMU is a domain that translates. That of a device without one is a promise
//! that memory stays where it is, and `IOMMU_IOAS_NOIOMMU_GET_PA` tells where that is: all of them in a context are one
//! domain, for what any of them keeps in place may be reached.
//!
//! Order of locks: object table, IOAS, records, the unit of the self-tests. Source of all behaviour: Linux 7.3, `drivers/iommu/iommufd` as
//! observed, and `Documentation/userspace-api/iommufd.rst`.
#![forbid(unsafe_code)]

mod access;
mod areas;
mod attach;
pub(crate) mod call;
mod change_process;
mod compat;
mod compat_map;
mod context;
mod device;
mod dirty;
mod domain;
mod event_queue;
mod fault_queue;
mod get_pa;
mod hardware;
mod hw_queue;
mod hwpt;
mod invalidate;
mod ioas;
mod link;
mod map;
mod mapped;
mod nested;
mod objects;
mod option;
mod pinned;
mod placement;
pub(crate) mod queue;
mod records;
mod reserved;
pub(crate) mod selftest;
mod span;
mod unit;
mod user_data;
mod vdevice;
mod viommu;

pub use context::{Context, Usage};
pub(crate) use device::NO_PASID;
pub use device::{Binding, DeviceObject};

/// The page size, of the CPU and of every page table here. [`Context::new`] holds the host's against it.
const PAGE: u64 = 4096;
