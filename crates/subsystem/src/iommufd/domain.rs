//! Domains: what the devices that are attached to a page table reach. Those of the host's IOMMU and those of the unit of the
//! self-tests are used alike.

use super::PAGE;
use super::context::Context;
use super::selftest::Mock;
use super::unit::Unit;
use crate::rules::iommufd as rule;
use crate::{DomainKind, Host, IommuInfo, Mapping, Mutex, Refusal, Rights};

/// The sizes of pages that a page table for devices without an IOMMU has in Linux: 4 KiB to 256 GiB, and 1 TiB to 2 PiB.
const SOFTWARE_PAGE_SIZES: u64 = 0xf_ff7f_ffff_f000;

/// A domain.
#[derive(Debug)]
pub(super) enum Domain<H: Host> {
    /// One of the host, behind its IOMMU or without any.
    Host(H::Domain),
    /// One of the self-tests' unit: its number.
    Mock(u32),
}

// Not derived: a derive would ask the same of `H`.
impl<H: Host> Clone for Domain<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Host> Copy for Domain<H> {}

/// What a domain translates.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    /// First and last IOVA; `None`: it translates nothing.
    pub(super) aperture: Option<(u64, u64)>,
    /// The sizes of pages that it can have, each as a bit.
    pub(super) page_sizes: u64,
}

impl Geometry {
    /// That of a page table for devices without an IOMMU.
    pub(super) const UNTRANSLATED: Geometry = Geometry { aperture: None, page_sizes: SOFTWARE_PAGE_SIZES };

    /// The smallest page.
    pub(super) fn granule(self) -> u64 {
        self.page_sizes & self.page_sizes.wrapping_neg()
    }
}

/// A part of an area that is in one pin.
#[derive(Clone, Copy)]
pub(super) struct Stretch<P> {
    /// Its IOVAs.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) pin: P,
    /// Its first byte, counted in the pin.
    pub(super) at: u64,
    pub(super) rights: Rights,
}

impl<P> Stretch<P> {
    /// The pages that it is in. What the host translates begins and ends with pages.
    pub(super) fn mapping(self) -> Mapping<P> {
        let Stretch { first: iova, last, pin, at, rights } = self;
        let end = (at % PAGE).saturating_add(last.saturating_sub(iova)) / PAGE;
        Mapping { iova, pin, first: at / PAGE, pages: end.saturating_add(1), rights }
    }
}

/// Whatever has domains: the host, and the unit of the self-tests.
pub(super) struct Domains<'a, H: Host> {
    pub(super) host: &'a H,
    pub(super) mock: &'a H::Mutex<Mock<H>>,
}

impl<H: Host> Domains<'_, H> {
    /// The devices of the domain may reach this memory from now on. False if there is no memory for that.
    pub(super) fn map(&self, domain: Domain<H>, stretch: Stretch<H::Pin>) -> bool {
        match domain {
            Domain::Host(domain) => self.host.domain_map(domain, stretch.mapping()),
            Domain::Mock(number) => self.mock.with(|mock| mock.map(self.host, number, stretch)),
        }
    }

    /// They may no longer. What is unmapped was mapped just so, or is what a cut has left of it.
    pub(super) fn unmap(&self, domain: Domain<H>, stretch: Stretch<H::Pin>) {
        match domain {
            Domain::Host(domain) => self.host.domain_unmap(domain, stretch.mapping()),
            Domain::Mock(number) => self.mock.with(|mock| mock.unmap(number, stretch.first, stretch.last)),
        }
    }

    /// What is mapped before an IOVA is unmapped without what is mapped from there on. False if there is no memory for that.
    pub(super) fn cut(&self, domain: Domain<H>, iova: u64) -> bool {
        match domain {
            // The host takes back any part.
            Domain::Host(_) => true,
            Domain::Mock(number) => self.mock.with(|mock| mock.cut(self.host, number, iova)),
        }
    }

    /// Whether the domain notes which pages are written from now on; on, it begins with no page written.
    pub(super) fn track_dirty(&self, domain: Domain<H>, on: bool) {
        match domain {
            Domain::Host(domain) => {
                if on {
                    self.host.dirty_read(domain, 0, u64::MAX, true, &mut |_, _| {});
                }
                self.host.dirty_tracking(domain, on);
            }
            Domain::Mock(number) => self.mock.with(|mock| mock.track_dirty(number, on)),
        }
    }

    /// Tells each run of pages from `iova` to `last` that were noted as written, and forgets them if `clear`.
    pub(super) fn read_dirty(
        &self,
        domain: Domain<H>,
        (iova, last): (u64, u64),
        clear: bool,
        each: &mut dyn FnMut(u64, u64),
    ) {
        match domain {
            Domain::Host(domain) => self.host.dirty_read(domain, iova, last, clear, each),
            Domain::Mock(number) => {
                self.mock.with(|mock| mock.read_dirty(number, (iova, last), clear, each));
            }
        }
    }
}

impl<H: Host> Context<H> {
    pub(super) fn domains<'a>(&'a self, host: &'a H) -> Domains<'a, H> {
        Domains { host, mock: &self.mock }
    }

    /// A new domain for a device, which translates so much.
    pub(super) fn domain_new(
        &self,
        host: &H,
        unit: Option<Unit>,
        geometry: Geometry,
    ) -> Result<Domain<H>, Refusal> {
        match unit {
            None => Ok(Domain::Host(self.physical)),
            Some(Unit::Host(IommuInfo { aperture_last, .. })) => {
                let domain = host.domain_new(DomainKind::Translated { aperture_last });
                domain.map(Domain::Host).ok_or(rule::NO_MEMORY)
            }
            Some(Unit::Mock(_)) => self.mock.with(|mock| mock.domain_new(host, geometry)).map(Domain::Mock),
        }
    }

    /// A domain that [`Context::domain_new`] made is gone. Nothing is mapped there.
    pub(super) fn domain_free(&self, host: &H, domain: Domain<H>, geometry: Geometry) {
        match domain {
            // All devices without an IOMMU share theirs, which stays.
            Domain::Host(_) if geometry.aperture.is_none() => {}
            Domain::Host(domain) => host.domain_free(domain),
            Domain::Mock(number) => self.mock.with(|mock| mock.domain_free(number)),
        }
    }
}
