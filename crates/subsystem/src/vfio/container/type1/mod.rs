//! type1: an address space that the IOMMUs of a container's groups translate.
//!
//! While some group of the container is behind an IOMMU, a mapping is pinned, and is in the domain of every such IOMMU. Where
//! all devices are emulated, only what their drivers ask for is pinned.
//! A BAR that the process has mapped can be mapped too; but no device here reaches the memory of another one, so that it is in
//! no domain.
//!
//! Source: Linux 7.3, `drivers/vfio/vfio_iommu_type1.c` as observed, and `include/uapi/linux/vfio.h`.

mod dirty;
mod emulated;
mod info;
mod map;
mod written;

use uapi::vfio::{
    VFIO_DMA_CC_IOMMU, VFIO_IOMMU_DIRTY_PAGES, VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA,
    VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU as VFIO_TYPE1_V2_IOMMU, VFIO_UNMAP_ALL, VFIO_UPDATE_VADDR,
};

use self::emulated::Drivers;
use self::written::Written;
use super::{Call, Member};
use crate::host::{DomainKind, Host, IommuInfo, Level, Mapping, Mutex as _, Rights, Task};
use crate::mem::{Entry, IntervalMap, List, OutOfMemory};
use crate::parameters::ModuleParameters;
use crate::rules::{Refusal, type1 as rules, vfio as vfio_rules};
use crate::vfio::device::IommuKind;

/// The smallest page of every IOMMU here.
const PAGE: u64 = 4096;

/// What backs a container by IOMMUs.
pub(super) struct Type1<H: Host> {
    /// Whether it is version 2, which unmaps nothing but whole mappings.
    v2: bool,
    space: H::Mutex<Space<H>>,
}

/// The address space of a container.
struct Space<H: Host> {
    mappings: IntervalMap<Mapped<H::Pin>>,
    /// How many more there can be.
    available: u32,
    /// How many of them have lost their address in the process.
    without_address: u32,
    /// Whether dirty pages are tracked.
    tracks_dirty: bool,
    written: Written,
    domains: List<Domain<H>>,
    /// Whether there has been a domain: it is known then which IOVAs can be mapped.
    knows_ranges: bool,
    emulated: Drivers<H::Pin>,
}

/// A mapping; its IOVAs are where it is kept.
#[derive(Clone, Copy)]
struct Mapped<P> {
    /// The pinned memory, while there is a domain; `None` too if it is that of a BAR, which is not pinned and counts for nobody.
    pin: Option<P>,
    /// Where it is in the process.
    address: u64,
    rights: Rights,
    /// Whose memory it is, and who is charged for it.
    task: Task,
    /// Whether that process had CAP_IPC_LOCK.
    capable: bool,
    /// Whether its address in the process is known.
    has_address: bool,
    /// What is behind its bits in the bitmap of its dirty pages: see [`dirty::Bitmap::mark`].
    stale: u128,
}

/// A domain, and the groups that are attached to it.
struct Domain<H: Host> {
    domain: H::Domain,
    enforces_coherency: bool,
    groups: List<(Member, IommuInfo)>,
}

/// Whether there is an extension, in whatever state a container is.
pub(super) fn has_extension(number: u64) -> bool {
    matches!(u32::try_from(number), Ok(VFIO_TYPE1_IOMMU | VFIO_TYPE1_V2_IOMMU | VFIO_UNMAP_ALL))
}

impl<H: Host> Type1<H> {
    /// An empty address space, of the version that an argument of `VFIO_SET_IOMMU` asks for; `None` if it asks for something else.
    pub(super) fn new(number: u64, modules: ModuleParameters) -> Option<Self> {
        let v2 = match u32::try_from(number) {
            Ok(VFIO_TYPE1_IOMMU) => false,
            Ok(VFIO_TYPE1_V2_IOMMU) => true,
            _ => return None,
        };
        let space = Space {
            mappings: IntervalMap::new(),
            available: modules.dma_entry_limit,
            without_address: 0,
            tracks_dirty: false,
            written: Written::NOTHING,
            domains: List::new(),
            knows_ranges: false,
            emulated: Drivers::new(),
        };
        Some(Type1 { v2, space: H::Mutex::new(space) })
    }

    /// `VFIO_CHECK_EXTENSION` of a container that it backs.
    pub(super) fn check_extension(&self, number: u64) -> bool {
        match u32::try_from(number) {
            Ok(VFIO_UPDATE_VADDR) => self.space.with(|space| !space.emulated.has_groups()),
            Ok(VFIO_DMA_CC_IOMMU) => {
                self.space.with(|space| space.domains.iter().all(|domain| domain.enforces_coherency))
            }
            _ => has_extension(number),
        }
    }

    /// Any other container ioctl.
    pub(super) fn ioctl(&self, call: &Call<'_, H>) -> Result<u32, Refusal> {
        match call.command {
            VFIO_IOMMU_GET_INFO => self.get_info(call),
            VFIO_IOMMU_MAP_DMA => self.map_dma(call),
            VFIO_IOMMU_UNMAP_DMA => self.unmap_dma(call),
            VFIO_IOMMU_DIRTY_PAGES => self.dirty_pages(call),
            _ => Err(rules::UNKNOWN_COMMAND),
        }
        .map(|()| 0)
    }

    /// How many mappings there are.
    pub(super) fn mappings(&self) -> usize {
        self.space.with(|space| space.mappings.len())
    }

    /// A group joins: what is mapped, its devices reach from now on, and nothing else.
    pub(super) fn attach(&self, host: &H, modules: ModuleParameters, member: Member) -> Result<(), Refusal> {
        if member.iommu == IommuKind::Emulated {
            return self.space.with(|space| space.add_emulated(host, member.minor));
        }
        // A group that is in a container with an IOMMU has one.
        let info = host.iommu_of_group(member.number).ok_or(vfio_rules::NO_MEMORY)?;
        self.space.with(|space| {
            space.check_group(host, modules, &info)?;
            let matching = |domain: &&mut Domain<H>| domain.enforces_coherency == info.enforces_coherency;
            if let Some(domain) = space.domains.iter_mut().find(matching) {
                domain.groups.push(host, (member, info)).map_err(no_memory)?;
                host.group_attach(member.number, Some(domain.domain));
                return Ok(());
            }
            let mut groups = List::new();
            groups.push(host, (member, info)).map_err(no_memory)?;
            space.domains.reserve(host).map_err(no_memory)?;
            let kind = DomainKind::Translated { aperture_last: info.aperture_last };
            let domain = host.domain_new(kind).ok_or(vfio_rules::NO_MEMORY)?;
            if let Err(refusal) = space.fill(host, domain) {
                host.domain_free(domain);
                return Err(refusal);
            }
            host.group_attach(member.number, Some(domain));
            let enforces_coherency = info.enforces_coherency;
            space.domains.push_reserved(Domain { domain, enforces_coherency, groups });
            space.knows_ranges = true;
            Ok(())
        })
    }

    /// A group leaves. With the last one of a domain the domain goes, with the last one of all whatever is mapped.
    pub(super) fn detach(&self, host: &H, minor: u32) {
        self.space.with(|space| {
            if space.remove_emulated(minor) {
                if !space.emulated.has_groups() && space.domains.is_empty() {
                    space.unmap_all(host);
                }
                return;
            }
            for at in 0..space.domains.len() {
                let Some(domain) = space.domains.get_mut(at) else { return };
                let Some(place) = domain.groups.iter().position(|(member, _)| member.minor == minor) else {
                    continue;
                };
                if let Some((member, _)) = domain.groups.remove(place) {
                    host.group_attach(member.number, None);
                }
                if domain.groups.is_empty() {
                    space.drop_domain(host, at);
                    space.note_all(host);
                }
                return;
            }
        });
    }
}

impl<H: Host> Space<H> {
    /// Checks that a group of an IOMMU goes with what is mapped.
    fn check_group(&self, host: &H, modules: ModuleParameters, info: &IommuInfo) -> Result<(), Refusal> {
        if self.without_address > 0 {
            return Err(rules::GROUP_ADDRESSES);
        }
        let beyond = info.aperture_last.checked_add(1);
        if beyond.is_some_and(|beyond| self.mappings.overlaps(beyond, u64::MAX)) {
            return Err(rules::GROUP_APERTURE);
        }
        if self.mappings.overlaps(info.msi_window.0, info.msi_window.1) {
            return Err(rules::GROUP_RESERVED);
        }
        if !info.isolated_msi && !modules.type1_unsafe_interrupts {
            let line = format_args!(
                "vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param \
                 \"allow_unsafe_interrupts\" to enable VFIO IOMMU support on this platform"
            );
            host.log(Level::Warn, None, line);
            return Err(rules::GROUP_INTERRUPTS);
        }
        Ok(())
    }

    /// Maps everything in a domain, and pins it before if it is the first. A refusal leaves it empty.
    fn fill(&mut self, host: &H, domain: H::Domain) -> Result<(), Refusal> {
        if self.domains.is_empty() {
            self.pin_all(host)?;
        }
        let failed = self.mappings.iter().find(|entry| !enter(host, domain, entry));
        let Some(failed) = failed.map(|entry| entry.first) else { return Ok(()) };
        let done = self.mappings.iter().take_while(|entry| entry.first < failed);
        done.for_each(|entry| leave(host, domain, &entry));
        if self.domains.is_empty() {
            self.unpin_all(host);
        }
        Err(vfio_rules::NO_MEMORY)
    }

    /// Takes away a domain that no group is attached to any more. With the last one everything is unmapped, or only unpinned
    /// where there are emulated devices.
    fn drop_domain(&mut self, host: &H, at: usize) {
        let last = self.domains.len() == 1;
        if last && !self.emulated.has_groups() {
            self.unmap_all(host);
        }
        if let Some(gone) = self.domains.remove(at) {
            self.mappings.iter().for_each(|entry| leave(host, gone.domain, &entry));
            host.domain_free(gone.domain);
        }
        if last {
            self.unpin_all(host);
        }
    }

    fn unmap_all(&mut self, host: &H) {
        while let Some(entry) = self.mappings.at_or_after(0) {
            self.remove(host, &entry);
        }
    }

    /// The first range of IOVAs from `from` on that can be mapped: every IOMMU can translate it, and none has its window for
    /// interrupts there.
    fn usable_from(&self, from: u64) -> Option<(u64, u64)> {
        let infos = || self.domains.iter().flat_map(|domain| domain.groups.iter().map(|(_, info)| info));
        let mut first = from;
        while let Some(info) = infos().find(|info| (info.msi_window.0..=info.msi_window.1).contains(&first)) {
            first = info.msi_window.1.checked_add(1)?;
        }
        let windows = infos().filter_map(|info| info.msi_window.0.checked_sub(1)).filter(|end| first <= *end);
        let last = windows.chain(infos().map(|info| info.aperture_last)).min().unwrap_or(u64::MAX);
        (first <= last).then_some((first, last))
    }

    /// The sizes of pages that every domain has, each as a bit.
    fn page_sizes(&self) -> u64 {
        let infos = self.domains.iter().flat_map(|domain| domain.groups.iter().map(|(_, info)| info));
        // What is smaller than a page of the CPU is not told.
        infos.fold(PAGE.wrapping_neg(), |sizes, info| sizes & info.page_sizes)
    }
}

/// Maps a mapping in a domain; false if the host has no memory for that.
fn enter<H: Host>(host: &H, domain: H::Domain, entry: &Entry<Mapped<H::Pin>>) -> bool {
    mapping(entry).is_none_or(|mapping| host.domain_map(domain, mapping))
}

/// Takes it out of the domain.
fn leave<H: Host>(host: &H, domain: H::Domain, entry: &Entry<Mapped<H::Pin>>) {
    if let Some(mapping) = mapping(entry) {
        host.domain_unmap(domain, mapping);
    }
}

/// How a mapping is in the domains: in one piece, or not at all.
fn mapping<P: Copy>(entry: &Entry<Mapped<P>>) -> Option<Mapping<P>> {
    let Mapped { pin, rights, .. } = entry.value;
    Some(Mapping { iova: entry.first, pin: pin?, first: 0, pages: pages(entry), rights })
}

fn pages<P>(entry: &Entry<Mapped<P>>) -> u64 {
    (entry.last.saturating_sub(entry.first) / PAGE).saturating_add(1)
}

fn no_memory(OutOfMemory: OutOfMemory) -> Refusal {
    vfio_rules::NO_MEMORY
}
