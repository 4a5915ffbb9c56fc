//! Finding a device and the best way to have it.
#![forbid(unsafe_code)]

mod group;
mod iommufd;
mod survey;

pub use iommufd::DeviceFiles;
pub(crate) use iommufd::adopt;

use std::path::Path;

use sys::Sys;

use crate::calls::Calls;
use crate::error::Attempt;
use crate::memory::{Addressing, Pagemap};
use crate::reach::{Reach, SysfsDevice};
use crate::{Device, Error, Mode, Options, Passed, PassedOver, PciAddress, Result};
use survey::{Survey, Way};

pub(crate) fn open<S: Sys>(sys: &S, address: PciAddress, options: &Options) -> Result<Device<S>> {
    if options.passed {
        match Passed::take(|passed| passed == address) {
            Ok((_, passed)) => return adopt(sys, address.to_string(), passed, options),
            Err(Error::NotPassed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let found = Survey::make(sys, address)?;
    let (mode, way, passed_over) = choose(&found, address, &Mode::ALL, Survey::way, options)?;
    let calls = Calls::new(sys, options.trace);
    let (reach, addressing) = enter(&calls, address, mode, way)?;
    Ok(Device::new(calls, address.to_string(), (mode, passed_over), reach, addressing))
}

/// The best of the modes, which are given from the best on, the way into it, and why better ones are passed over.
fn choose<'a, W>(
    found: &'a Survey,
    address: PciAddress,
    modes: &[Mode],
    way: fn(&'a Survey, Mode) -> std::result::Result<W, String>,
    options: &Options,
) -> Result<(Mode, W, Vec<PassedOver>)> {
    let mut passed_over = Vec::new();
    for &mode in modes {
        let way = match options.mode {
            Some(wanted) if mode < wanted => Err(format!("mode {wanted} was asked for")),
            Some(wanted) if mode > wanted => break,
            _ => way(found, mode),
        };
        match way {
            Ok(_) if !mode.has_iommu() && !options.allow_noiommu => {
                return Err(Error::NoiommuNotAllowed { device: address.to_string(), mode });
            }
            Ok(way) => return Ok((mode, way, passed_over)),
            Err(reason) => passed_over.push(PassedOver { mode, reason }),
        }
    }
    Err(Error::NoMode { address, passed_over, looked: found.looked.clone() })
}

/// Opens a device in a mode.
fn enter<S: Sys>(
    calls: &Calls<S>,
    address: PciAddress,
    mode: Mode,
    way: Way<'_>,
) -> Result<(Reach<S>, Addressing<S>)> {
    match way {
        Way::Node(node) => iommufd::enter(calls, address, mode, node),
        Way::Group(node, number) => group::enter(calls, address, mode, node, number),
        Way::Sysfs { folder, uio, driven } => sysfs(calls, address, folder, uio, driven),
    }
}

fn sysfs<S: Sys>(
    calls: &Calls<S>,
    address: PciAddress,
    folder: &Path,
    uio: Option<&Path>,
    driven: bool,
) -> Result<(Reach<S>, Addressing<S>)> {
    let pagemap = Pagemap::open(calls)?;
    let device = SysfsDevice::open(calls, folder, uio, driven);
    let device = device.attempt(|| format!("cannot open {address} by its files in sysfs"))?;
    Ok((Reach::Sysfs(device), Addressing::Pagemap(pagemap)))
}
