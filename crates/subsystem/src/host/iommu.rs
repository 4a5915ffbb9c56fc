//! Domains: what devices reach; and IOMMUs, whose domains translate.

use core::fmt;

use super::{Function, Memory};

/// The IOMMU that serves a function, and the function's place behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IommuInfo {
    /// The number of the function's iommu_group: of all functions that the IOMMU cannot tell apart.
    pub group: u32,
    /// The last IOVA that a domain can translate; the first is 0.
    pub aperture_last: u64,
    /// The sizes of pages that a domain can have, each as a bit; the smallest is that of the CPU.
    pub page_sizes: u64,
    /// First and last IOVA of the window where a write is an interrupt. It is never translated.
    pub msi_window: (u64, u64),
    /// Whether DMA is coherent with the caches of the CPU.
    pub coherent: bool,
    /// Whether it can keep a device from asking for DMA that is not coherent.
    pub enforces_coherency: bool,
    /// Whether it keeps a device from raising interrupts of others.
    pub isolated_msi: bool,
    /// Whether a domain can tell which pages were written.
    pub dirty_tracking: bool,
    /// The capability register, and the extended one, of an Intel VT-d unit.
    pub registers: [u64; 2],
}

/// How the devices that are attached to a domain address memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainKind {
    /// Physically: without an IOMMU. Mapped memory may be reached where it is; it may be mapped several times, and its
    /// IOVAs are for reports only.
    Physical,
    /// By IOVA, through an IOMMU. Mappings are disjoint.
    Translated {
        /// The last IOVA that can be mapped.
        aperture_last: u64,
    },
}

/// Memory that is mapped in a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<P> {
    /// The IOVA of its first page.
    pub iova: u64,
    /// The pinned memory.
    pub pin: P,
    /// The first page of it.
    pub first: u64,
    /// How many pages.
    pub pages: u64,
    /// What devices may do.
    pub rights: Rights,
}

/// What devices may do with memory. Without an IOMMU nothing keeps them from reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Read it.
    pub read: bool,
    /// Write it.
    pub write: bool,
}

/// Whoever has the DMA of an iommu_group to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaOwner {
    /// The iommufd context of this number.
    Context(u32),
    /// The VFIO group with this minor number, which has joined a container.
    Group(u32),
}

/// Domains, and the IOMMUs behind them.
pub trait Iommu: Memory {
    /// A domain.
    type Domain: Copy + Send + Sync + fmt::Debug + PartialEq;

    /// The IOMMU that the driver core has attached to the function (`dev->iommu`).
    fn iommu(&self, function: Function) -> Option<IommuInfo>;

    /// The IOMMU that an iommu_group is behind, as each of its functions says; `None` if it is behind none.
    fn iommu_of_group(&self, group: u32) -> Option<IommuInfo>;

    /// The domain of devices without an IOMMU that are opened through their groups: the kernel knows of no memory that it
    /// gives to them, and programs learn addresses elsewhere (`/proc/self/pagemap`). Nothing is mapped there.
    fn unmanaged_domain(&self) -> Self::Domain;
    /// A new domain, empty. `None` if the host has no memory.
    fn domain_new(&self, kind: DomainKind) -> Option<Self::Domain>;
    /// A domain is gone, in which nothing is mapped and that no device is attached to.
    fn domain_free(&self, domain: Self::Domain);
    /// The devices of the domain may reach this memory from now on. False if the host has no memory.
    fn domain_map(&self, domain: Self::Domain, mapping: Mapping<Self::Pin>) -> bool;
    /// They may no longer; returns when no access to it is under way any more. What is unmapped was mapped just so, or is a
    /// part of what was.
    fn domain_unmap(&self, domain: Self::Domain, mapping: Mapping<Self::Pin>);
    /// A function without an IOMMU reaches what this domain says from now on; `None`: nothing. Returns when no access that
    /// began before is under way any more.
    fn domain_attach(&self, function: Function, domain: Option<Self::Domain>);
    /// The same of all functions of an iommu_group that is behind an IOMMU, those included that come to it later.
    fn group_attach(&self, group: u32, domain: Option<Self::Domain>);
    /// Whether the domain notes which pages are written from now on. What it has noted before stays.
    fn dirty_tracking(&self, domain: Self::Domain, on: bool);
    /// Tells each run of pages from `iova` to `last` that were noted as written, as first and last IOVA, and forgets them
    /// if `clear`; returns when no write of a page that was forgotten is under way any more.
    fn dirty_read(
        &self,
        domain: Self::Domain,
        iova: u64,
        last: u64,
        clear: bool,
        each: &mut dyn FnMut(u64, u64),
    );

    /// Gives the DMA of an iommu_group to an owner, who may claim it several times; devices of the group that are attached
    /// to no domain reach nothing from now on. False if somebody else has it, such as a driver of the host.
    fn dma_claim(&self, group: u32, owner: DmaOwner) -> bool;
    /// Takes back one claim.
    fn dma_release(&self, group: u32);
    /// Whether anybody has the DMA of an iommu_group, drivers of the host included.
    fn dma_claimed(&self, group: u32) -> bool;
}
