//! GETPA: a BAR of the device itself, mapped as a dma-buf.

use std::os::fd::{AsRawFd, OwnedFd};

use sys::Suite;
use uapi::Errno;

use super::{answer, case};
use crate::call::export_dma_buf;
use crate::config::command;
use crate::fixture::{Bound, Fixture};
use crate::outcome::{Stop, Way};
use crate::run::Case;
use crate::space::P;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-546", |f| {
            let space = f.attached_space()?;
            let device = space.device()?;
            let dma_buf = export(f, device)?;
            space.map_file_with(dma_buf.as_raw_fd(), |_| ())?;
            space.get_pa(P, P)?;
            f.set_command(device, command::MEMORY, false)?;
            f.set_command(device, command::MEMORY, true)?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-698", |f| {
            let Bound { device, iommufd, .. } = f.bound()?;
            let ioas = f.ioas(&iommufd)?;
            f.attach(&device, ioas)?;
            let dma_buf = export(f, &device)?;
            f.map_file_at(&iommufd, ioas, dma_buf.as_raw_fd(), P, P)?;
            f.get_pa(&iommufd, ioas, P, P)?;
            drop(device);
            let again = f.bound_in(f.address()?, iommufd)?;
            f.attach(&again.device, ioas)?;
            answer(f.get_pa(&again.iommufd, ioas, P, P).map(|(address, _)| address))
        }),
    ]
}

/// Exports a page of the device's first BAR that can be mapped.
fn export<S: Suite>(f: &Fixture<S>, device: &S::File) -> Way<OwnedFd> {
    let index = f.mappable_bar(device)?.index;
    export_dma_buf(f.sys, device, index).map_err(|error| match error.errno() {
        Errno::ENOTTY => Stop::NotApplicable("the system does not export dma-bufs of BARs".into()),
        _ => error.into(),
    })
}
