//! `IOMMU_OPTION`

use uapi::iommufd::{
    IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, IOMMU_OPTION_OP_SET, IOMMU_OPTION_RLIMIT_MODE, IommuOption,
};

use super::areas::Areas;
use super::call::Call;
use super::context::Context;
use super::objects::Objects;
use crate::rules::iommufd as rule;
use crate::{Account, Host, Mutex, Refusal, RwLock};

/// What is to be done with an option.
enum Operation {
    Set(u64),
    Get,
}

impl<H: Host> Context<H> {
    /// `IOMMU_OPTION`
    pub(super) fn option(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuOption>()?;
        let command = &mut argument.value;
        if command.reserved != 0 {
            return Err(rule::OPTION_UNKNOWN);
        }
        let operation = match u32::from(command.op) {
            IOMMU_OPTION_OP_SET => Some(Operation::Set(command.val64)),
            IOMMU_OPTION_OP_GET => Some(Operation::Get),
            _ => None,
        };
        let answer = match command.option_id {
            IOMMU_OPTION_RLIMIT_MODE => {
                if command.object_id != 0 {
                    return Err(rule::OPTION_RLIMIT_OBJECT);
                }
                let operation = operation.ok_or(rule::OPTION_UNKNOWN)?;
                let may_set = call.caller.caps.sys_resource;
                self.objects.write(|objects| rlimit_mode(objects, operation, may_set))?
            }
            IOMMU_OPTION_HUGE_PAGES => self.objects.read(|objects| {
                let ioas = objects.ioas(command.object_id)?;
                let operation = operation.ok_or(rule::OPTION_UNKNOWN)?;
                ioas.areas.with(|areas| huge_pages(areas, operation))
            })?,
            _ => return Err(rule::OPTION_UNKNOWN),
        };
        if let Some(value) = answer {
            command.val64 = value;
        }
        call.reply(&argument)
    }
}

/// Against which counter pinned memory is charged: 0 the user's, 1 the address space's.
fn rlimit_mode<H: Host>(
    objects: &mut Objects<H>,
    operation: Operation,
    may_set: bool,
) -> Result<Option<u64>, Refusal> {
    let Operation::Set(value) = operation else {
        return Ok(Some(u64::from(objects.account == Account::Space)));
    };
    if !may_set {
        return Err(rule::OPTION_RLIMIT_CAPABILITY);
    }
    if !objects.is_empty() {
        return Err(rule::OPTION_RLIMIT_LATE);
    }
    objects.account = match value {
        0 => Account::User,
        1 => Account::Space,
        _ => return Err(rule::OPTION_RLIMIT_VALUE),
    };
    Ok(None)
}

/// Whether page tables of an IOAS may use large pages.
fn huge_pages<H: Host>(areas: &mut Areas<H>, operation: Operation) -> Result<Option<u64>, Refusal> {
    match operation {
        Operation::Get => return Ok(Some(u64::from(areas.huge_pages()))),
        Operation::Set(0) => areas.disable_huge_pages()?,
        Operation::Set(1) => areas.enable_huge_pages(),
        Operation::Set(_) => return Err(rule::OPTION_HUGE_VALUE),
    }
    Ok(None)
}
