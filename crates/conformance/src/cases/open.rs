//! OPEN: opening device files, what a file that is not bound answers, and what every device file is.

use std::io::SeekFrom;
use std::path::Path;

use rustix::event::epoll;
use sys::{Access, Mapping, Readiness, Suite};
use uapi::Errno;

use crate::call::ioctl_bytes;
use crate::case::{Case, answer, case};
use crate::driver::{Driver, Unbinding};
use crate::fixture::{Fixture, Need};
use crate::group::opened;
use crate::memory::PAGE;
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::pci::{config, region};
use crate::space::{P, caller};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = opening();
    cases.extend(not_bound());
    cases.extend(any_file());
    cases.extend(read_only());
    cases.extend(while_unbinding());
    cases
}

fn opening<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-028", |f| open_as(f, &["CAP_SYS_RAWIO"], &f.cdev_path(f.address()?)?)),
        case("B-029", |f| open_as(f, &[], &f.cdev_path(f.address()?)?)),
        case("B-031", |f| {
            let path = f.cdev_path(f.address()?)?;
            let opened = f.sys.in_user_namespace(|sys| {
                sys.open(&path, Access::ReadWrite).map(|_| 0).map_err(|error| error.errno())
            });
            let opened = opened.map_err(|error| Stop::NotApplicable(error.to_string()))?;
            Ok(Got::Answer(opened, None))
        }),
        case("B-030", |f| open_as(f, &[], &f.cdev_path(f.address()?)?)),
        case("B-040", |f| {
            let _unbound = f.opened()?;
            answer(opened(f.sys.open(&f.group_path(f.address()?)?, Access::ReadWrite)))
        }),
        case("B-041", |f| {
            let device = f.opened()?;
            let target = f.target;
            answer(f.sys.as_caller(&caller(&[], None), |sys| {
                let f = Fixture::new(sys, target);
                Ok::<_, Stop>(f.bind(&device, &f.iommufd()?).map(|_| 0u32))
            })??)
        }),
        case("B-032", |f| {
            let _first = f.opened()?;
            let path = f.cdev_path(f.address()?)?;
            answer(f.sys.open(&path, Access::ReadWrite).map(|_| 0u32))
        }),
        case("B-042", |f| {
            let device = f.open_at(f.address()?)?;
            let target = f.target;
            f.sys.as_caller(&caller(&[], None), |sys| {
                let f = Fixture::new(sys, target);
                let iommufd = f.iommufd()?;
                let ioas = f.ioas(&iommufd)?;
                f.bind(&device, &iommufd)?;
                f.attach(&device, ioas)?;
                answer(f.get_pa(&iommufd, ioas, P, P).map(|(address, _)| address))
            })?
        }),
        case("B-596", |f| open_as(f, &[], Path::new("/dev/iommu"))),
        case("B-600", |f| {
            let device = f.bound_at(f.address()?)?.device;
            let target = f.target;
            answer(f.sys.as_caller(&caller(&[], None), |sys| {
                Fixture::new(sys, target).device_info(&device).map(|_| 0u32)
            })?)
        }),
    ]
}

/// Files that are open and not bound.
fn not_bound<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-033", |f| answer(f.device_info(&f.opened()?).map(|_| 0u32))),
        case("B-034", |f| answer(ioctl_bytes(f.sys, &f.opened()?, 0x3bff, &mut [0; 64]))),
        case("B-035", |f| {
            let device = f.opened()?;
            Ok(Got::alike([f.attach(&device, 1), f.detach(&device)]))
        }),
        case("B-036", |f| {
            answer(f.sys.pread(&f.opened()?, &mut [0; 4], config(0)).map(|count| count as u64))
        }),
        case("B-037", |f| answer(f.sys.pread(&f.opened()?, &mut [], config(0)).map(|count| count as u64))),
        case("B-038", |f| answer(f.sys.pwrite(&f.opened()?, &[0; 4], config(4)).map(|count| count as u64))),
        case("B-039", |f| answer(map_bar0(f, &f.opened()?))),
    ]
}

/// What the VFS makes of a file that is bound.
fn any_file<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-045", |f| answer(f.sys.seek(&f.bound()?.device, SeekFrom::Start(0)))),
        case("B-046", |f| Ok(Got::equal(Readiness::IN | Readiness::OUT, f.sys.poll(&f.bound()?.device)?))),
        case("B-047", |f| {
            let device = f.bound()?.device;
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let data = epoll::EventData::new_u64(0);
            let added = epoll::add(&epoll, &device, data, epoll::EventFlags::IN);
            answer(added.map(|()| 0u32).map_err(|error| {
                sys::Error::new(
                    "epoll_ctl",
                    "a device file",
                    Errno::from_raw(error.raw_os_error()).unwrap_or(Errno::EIO),
                )
            }))
        }),
    ]
}

fn read_only<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-597", |f| {
            let device = f.sys.open(&f.cdev_path(f.address()?)?, Access::Read)?;
            let iommufd = f.sys.open(Path::new("/dev/iommu"), Access::Read)?;
            answer(f.bind(&device, &iommufd).map(|_| 0u32))
        }),
        case("B-598", |f| {
            let device = bound_read_only(f)?;
            answer(f.config_write(&device, 4, &[0; 2]))
        }),
        case("B-599", |f| {
            let device = bound_read_only(f)?;
            answer(map_bar0(f, &device))
        }),
    ]
}

/// While the driver is being unbound, which waits for the files of the device.
fn while_unbinding<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-043", |f| {
            let leaving = Leaving::begin(f, f.address()?)?;
            let waits = leaving.unbinding.waits();
            leaving.end()?;
            Ok(Got::truth("the write returns when the file is closed, and not before", waits, waits))
        }),
        case("B-044", |f| {
            let path = f.cdev_path(f.address()?)?;
            let leaving = Leaving::begin(f, f.address()?)?;
            let late = opened(f.sys.open(&path, Access::ReadWrite));
            leaving.end()?;
            answer(late)
        }),
        case("B-601", |f| {
            let leaving = Leaving::begin(f, f.address()?)?;
            let late = f.sys.open_handle(&leaving.handle, Access::ReadWrite).map(|_| 0u32);
            leaving.end()?;
            answer(late)
        }),
        case("B-602", |f| {
            let leaving = Leaving::begin(f, f.address()?)?;
            // The mode of a node that is gone allows nobody anything.
            let late = f.sys.as_caller(&caller(&["CAP_DAC_OVERRIDE"], None), |sys| {
                sys.open_handle(&leaving.handle, Access::ReadWrite).map(|_| 0u32)
            })?;
            leaving.end()?;
            answer(late)
        }),
        case("B-603", |f| {
            // Binding resets a device that can be reset, which is not to be had while its driver is being unbound.
            let mut leaving = Leaving::begin(f, f.address_with(Need::NoReset)?)?;
            let late = f.sys.open_handle(&leaving.handle, Access::ReadWrite)?;
            leaving.device = None;
            let bound = f.bind(&late, &f.iommufd()?).map(|_| 0u32);
            let waits = leaving.unbinding.waits();
            drop(late);
            leaving.end()?;
            Ok(Got::from(bound).provided(Got::truth("the wait is prolonged", waits, waits)))
        }),
    ]
}

/// A device whose driver is being unbound: its node is gone, and what is left are a handle of that and an open file.
struct Leaving<'a, S: Suite> {
    handle: S::Handle,
    device: Option<S::File>,
    unbinding: Unbinding,
    /// Dropped last: the driver is bound again when the file is closed.
    _driver: Driver<'a, S>,
}

impl<'a, S: Suite> Leaving<'a, S> {
    fn begin(f: &Fixture<'a, S>, address: &'a str) -> Way<Self> {
        let node = f.cdev_path(address)?;
        let driver = f.driver(address);
        let device = Some(f.open_at(address)?);
        let handle = f.sys.look_up(&node)?;
        let unbinding = driver.begin_unbind(&node)?;
        Ok(Leaving { handle, device, unbinding, _driver: driver })
    }

    /// Closes the file, and sees that the driver is unbound then.
    fn end(self) -> Way<()> {
        drop(self.device);
        Ok(self.unbinding.end()??)
    }
}

fn open_as<S: Suite>(f: &Fixture<S>, capabilities: &[&str], path: &Path) -> Outcome {
    let open = |sys: &S| sys.open(path, Access::ReadWrite).map(|_| 0u32);
    answer(f.sys.as_caller(&caller(capabilities, None), open)?)
}

fn bound_read_only<S: Suite>(f: &Fixture<S>) -> Way<S::File> {
    let device = f.sys.open(&f.cdev_path(f.address()?)?, Access::Read)?;
    f.bind(&device, &f.iommufd()?)?;
    Ok(device)
}

fn map_bar0<S: Suite>(f: &Fixture<S>, device: &S::File) -> sys::Result<u32> {
    f.sys.map_region(device, Mapping::registers(region(0), PAGE)).map(|_| 0)
}
