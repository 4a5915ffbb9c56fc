//! `IOMMU_TEST_CMD`: which operation is which.

use uapi::iommufd_test::{
    IOMMU_TEST_OP_ADD_RESERVED, IOMMU_TEST_OP_DEV_CHECK_CACHE, IOMMU_TEST_OP_DIRTY,
    IOMMU_TEST_OP_MD_CHECK_IOTLB, IOMMU_TEST_OP_MD_CHECK_MAP, IOMMU_TEST_OP_MD_CHECK_REFS,
    IOMMU_TEST_OP_MOCK_DOMAIN, IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
    IOMMU_TEST_OP_PASID_ATTACH, IOMMU_TEST_OP_PASID_CHECK_HWPT, IOMMU_TEST_OP_PASID_DETACH,
    IOMMU_TEST_OP_PASID_REPLACE, IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, IOMMU_TEST_OP_TRIGGER_IOPF,
    IOMMU_TEST_OP_TRIGGER_VEVENT, IommuTestAddReserved, IommuTestCmd, IommuTestMemoryLimit,
    IommuTestMockDomainFlags,
};

use super::pasid::Change;
use crate::iommufd::call::Call;
use crate::iommufd::context::Context;
use crate::iommufd::reserved::NOBODY;
use crate::rules::selftest as test_rule;
use crate::{Host, Refusal, RwLock};

impl<H: Host> Context<H> {
    /// `IOMMU_TEST_CMD`
    pub(in crate::iommufd) fn test(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuTestCmd>()?;
        let command = argument.value;
        match command.op {
            IOMMU_TEST_OP_ADD_RESERVED => self.add_reserved(call, &command),
            IOMMU_TEST_OP_MOCK_DOMAIN => self.mock_domain(call, &mut argument, 0),
            IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS => {
                let flags = command.get::<IommuTestMockDomainFlags>().dev_flags;
                self.mock_domain(call, &mut argument, flags)
            }
            IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE => self.mock_domain_replace(call, &mut argument),
            IOMMU_TEST_OP_MD_CHECK_MAP => self.check_map(call, &command),
            IOMMU_TEST_OP_MD_CHECK_REFS => self.check_refs(call, &command),
            IOMMU_TEST_OP_DEV_CHECK_CACHE => self.check_device_cache(&command),
            IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT => check_memory_limit(command.get()),
            IOMMU_TEST_OP_DIRTY => self.set_dirty(call, &mut argument),
            IOMMU_TEST_OP_MD_CHECK_IOTLB => self.check_iotlb(&command),
            IOMMU_TEST_OP_TRIGGER_IOPF => self.trigger_iopf(call, &command),
            IOMMU_TEST_OP_TRIGGER_VEVENT => self.trigger_vevent(call, &command),
            IOMMU_TEST_OP_PASID_ATTACH => self.pasid_attach(call, &mut argument, Change::Attach),
            IOMMU_TEST_OP_PASID_REPLACE => self.pasid_attach(call, &mut argument, Change::Replace),
            IOMMU_TEST_OP_PASID_DETACH => self.pasid_detach(call, &command),
            IOMMU_TEST_OP_PASID_CHECK_HWPT => self.check_pasid(&command),
            _ => Err(test_rule::OPERATION),
        }
    }

    /// `ADD_RESERVED`: keeps IOVAs free for as long as the IOAS lives.
    fn add_reserved(&self, call: &Call<'_, H>, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestAddReserved { start, length } = command.get();
        let rest = length.checked_sub(1).ok_or(test_rule::LENGTH)?;
        let last = start.checked_add(rest).ok_or(test_rule::WRAPS)?;
        self.objects.read(|objects| {
            let ioas = objects.ioas(command.id)?;
            self.with_areas(call.host, ioas, |areas, linker| {
                areas.keep_free(linker.host, (start, last), NOBODY, test_rule::RESERVED)
            })
        })
    }
}

/// `SET_TEMP_MEMORY_LIMIT`: bounds what Linux takes for lists of pages while it pins. Nothing of the kind is taken here, so the
/// limit changes nothing; one that Linux could not work with is refused.
fn check_memory_limit(operand: IommuTestMemoryLimit) -> Result<(), Refusal> {
    if operand.limit < 12 { Err(test_rule::MEMORY_LIMIT) } else { Ok(()) }
}
