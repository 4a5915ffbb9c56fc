//! The world as the subsystem's IOMMU.
#![forbid(unsafe_code)]

use subsystem::{DmaOwner, DomainKind, Function, IommuInfo, Mapping, Memory as _};

use super::World;
use crate::dma::{Domain, UNMANAGED};
use crate::ram::Pin;

impl subsystem::Iommu for World {
    type Domain = Domain;

    fn iommu(&self, function: Function) -> Option<IommuInfo> {
        self.groups.info(function)
    }

    fn iommu_of_group(&self, group: u32) -> Option<IommuInfo> {
        self.groups.info_of(group)
    }

    fn unmanaged_domain(&self) -> Domain {
        UNMANAGED
    }

    fn domain_new(&self, kind: DomainKind) -> Option<Domain> {
        let aperture_last = match kind {
            DomainKind::Physical => None,
            DomainKind::Translated { aperture_last } => Some(aperture_last),
        };
        Some(self.domains.create(aperture_last))
    }

    fn domain_free(&self, domain: Domain) {
        self.domains.remove(domain);
    }

    fn domain_map(&self, domain: Domain, mapping: Mapping<Pin>) -> bool {
        self.domains.map(domain, &mapping);
        true
    }

    fn domain_unmap(&self, domain: Domain, mapping: Mapping<Pin>) {
        self.domains.unmap(domain, &mapping);
    }

    fn domain_attach(&self, function: Function, domain: Option<Domain>) {
        self.with(function, (), |function| self.domains.attach(function.dma(), domain));
    }

    fn group_attach(&self, group: u32, domain: Option<Domain>) {
        self.groups.attach(group, domain, |member, domain| self.domain_attach(member, domain));
    }

    fn dirty_tracking(&self, domain: Domain, on: bool) {
        self.domains.track_dirty(domain, on);
    }

    fn dirty_read(&self, domain: Domain, iova: u64, last: u64, clear: bool, each: &mut dyn FnMut(u64, u64)) {
        for page in self.domains.dirty(domain, iova / Self::PAGE, last / Self::PAGE, clear) {
            each(page * Self::PAGE, page * Self::PAGE + (Self::PAGE - 1));
        }
    }

    fn dma_claim(&self, group: u32, owner: DmaOwner) -> bool {
        self.groups.claim(group, owner, |member, domain| self.domain_attach(member, domain))
    }

    fn dma_release(&self, group: u32) {
        self.groups.release(group, |member, domain| self.domain_attach(member, domain));
    }

    fn dma_claimed(&self, group: u32) -> bool {
        self.groups.is_claimed(group)
    }
}
