//! The iommu_groups of a machine: which functions are in one, what they are attached to, and who has their DMA.
#![forbid(unsafe_code)]

use std::sync::Mutex;

use subsystem::{DmaOwner, Function, IommuInfo};

use crate::dma::Domain;
use crate::lock::lock;
use crate::spec::{DeviceSpec, IommuSpec, PciAddress};

/// The iommu_groups of a machine: those that its IOMMU makes, and those that VFIO makes for functions without one.
#[derive(Debug)]
pub(crate) struct Groups {
    unit: Option<Unit>,
    /// By number of function.
    places: Vec<Place>,
    /// By number; a new group has the lowest one that is free.
    all: Mutex<Vec<Option<Group>>>,
}

/// The IOMMU of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) spec: IommuSpec,
    /// What drivers of the host map memory in, which here they never do. Groups are attached to it while no program has them.
    pub(crate) default: Domain,
}

/// Where a function is on the bus, and with regard to the IOMMU.
pub(crate) type Place = (PciAddress, Isolation);

#[derive(Debug, Default)]
struct Group {
    /// In the order in which they came.
    members: Vec<Function>,
    /// What its members are behind; `None`: VFIO has made it for a function without an IOMMU.
    info: Option<IommuInfo>,
    /// Who has its DMA, and how often.
    owner: Option<(Owner, u32)>,
    /// What its members are attached to; `None`: all DMA is blocked.
    domain: Option<Domain>,
}

/// Who has the DMA of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Drivers of the host, each of one function, which reach memory by the DMA API.
    Drivers,
    /// VFIO or IOMMUFD.
    User(DmaOwner),
}

impl Groups {
    /// No groups yet, for functions that are in these places.
    pub(crate) fn new(unit: Option<Unit>, places: Vec<Place>) -> Self {
        Groups { unit, places, all: Mutex::default() }
    }

    /// Whether interrupts go through the unit.
    pub(crate) fn remaps_interrupts(&self) -> bool {
        self.unit.is_some_and(|unit| unit.spec.interrupt_remapping)
    }

    /// Whether a function is behind the IOMMU.
    pub(crate) fn is_behind(&self, function: Function) -> bool {
        let place = self.places.get(function.0 as usize);
        self.unit.is_some() && place.is_some_and(|(_, isolation)| *isolation != Isolation::Bypass)
    }

    /// A function is found on the bus: it comes into its group, which is made for the first one, and is to `attach` as the
    /// others are attached. `None` if it is not behind the IOMMU.
    pub(crate) fn join(&self, function: Function, attach: impl FnOnce(Option<Domain>)) -> Option<IommuInfo> {
        let Unit { spec, default } = self.unit?;
        let (address, isolation) =
            *self.places.get(function.0 as usize).filter(|_| self.is_behind(function))?;
        let together = |member: &Function| {
            self.places.get(member.0 as usize).is_some_and(|&(other, its)| match isolation {
                Isolation::Own => its == isolation && other.is_of_device(address),
                Isolation::Shared(_) => its == isolation,
                Isolation::Alone | Isolation::Bypass => false,
            })
        };
        let mut all = lock(&self.all);
        let found = all.iter().position(|it| it.as_ref().is_some_and(|it| it.members.iter().any(together)));
        let number = found.unwrap_or_else(|| {
            let new =
                |number| Group { info: Some(spec.info(number)), domain: Some(default), ..Group::default() };
            add(&mut all, new) as usize
        });
        let group = all.get_mut(number)?.as_mut()?;
        group.members.push(function);
        // While nobody attaches the group to anything else.
        attach(group.domain);
        group.info
    }

    /// VFIO makes a group for a function without an IOMMU; its number.
    pub(crate) fn make(&self, function: Function) -> u32 {
        add(&mut lock(&self.all), |_| Group { members: vec![function], ..Group::default() })
    }

    /// A function leaves its group, which goes with the last one. Answers the number of the group, and whether it is gone.
    pub(crate) fn leave(&self, function: Function) -> Option<(u32, bool)> {
        let mut all = lock(&self.all);
        let number =
            all.iter().position(|group| group.as_ref().is_some_and(|it| it.members.contains(&function)))?;
        let members = &mut all[number].as_mut()?.members;
        members.retain(|member| *member != function);
        let gone = members.is_empty();
        if gone {
            all[number] = None;
        }
        Some((number as u32, gone))
    }

    /// What serves a function.
    pub(crate) fn info(&self, function: Function) -> Option<IommuInfo> {
        of(&mut lock(&self.all), function)?.info
    }

    /// What a group is behind.
    pub(crate) fn info_of(&self, group: u32) -> Option<IommuInfo> {
        self.with(group, None, |group| group.info)
    }

    /// A group is attached to a domain, or to none: so is to be `each` of its functions.
    pub(crate) fn attach(&self, group: u32, domain: Option<Domain>, each: impl Each) {
        self.with(group, (), |group| group.attach(domain, each));
    }

    /// A driver of the host that reaches memory by the DMA API is about to have a function; false if VFIO or IOMMUFD has the
    /// DMA of its group. A function in no group can be had.
    pub(crate) fn claim_for_driver(&self, function: Function) -> bool {
        of(&mut lock(&self.all), function).is_none_or(|group| group.claim(Owner::Drivers))
    }

    /// It has it no more.
    pub(crate) fn release_for_driver(&self, function: Function) {
        if let Some(group) = of(&mut lock(&self.all), function) {
            group.release();
        }
    }

    /// Gives the DMA of a group to an owner; with the first claim it is blocked.
    pub(crate) fn claim(&self, group: u32, owner: DmaOwner, each: impl Each) -> bool {
        self.with(group, false, |group| {
            let first = group.owner.is_none();
            let claimed = group.claim(Owner::User(owner));
            if claimed && first {
                group.attach(None, each);
            }
            claimed
        })
    }

    /// Takes back one claim; with the last one it goes where that of drivers goes.
    pub(crate) fn release(&self, group: u32, each: impl Each) {
        self.with(group, (), |group| {
            group.release();
            if group.owner.is_none() {
                group.attach(self.unit.map(|unit| unit.default), each);
            }
        });
    }

    /// Whether anybody has the DMA of a group.
    pub(crate) fn is_claimed(&self, group: u32) -> bool {
        self.with(group, false, |group| group.owner.is_some())
    }

    /// Works on a group, if there is one of that number.
    fn with<R>(&self, group: u32, otherwise: R, f: impl FnOnce(&mut Group) -> R) -> R {
        lock(&self.all).get_mut(group as usize).and_then(Option::as_mut).map_or(otherwise, f)
    }
}

/// Called for each function of a group that changes over to a domain, or to none.
pub(crate) trait Each: FnMut(Function, Option<Domain>) {}

impl<F: FnMut(Function, Option<Domain>)> Each for F {}

impl Group {
    fn attach(&mut self, domain: Option<Domain>, mut each: impl Each) {
        self.domain = domain;
        self.members.iter().for_each(|member| each(*member, domain));
    }

    fn claim(&mut self, owner: Owner) -> bool {
        let (holder, claims) = self.owner.get_or_insert((owner, 0));
        let own = *holder == owner;
        *claims += u32::from(own);
        own
    }

    fn release(&mut self) {
        if let Some((_, claims)) = &mut self.owner {
            *claims -= 1;
            if *claims == 0 {
                self.owner = None;
            }
        }
    }
}

/// Adds a new group; its number.
fn add(all: &mut Vec<Option<Group>>, new: impl FnOnce(u32) -> Group) -> u32 {
    let number = all.iter().position(Option::is_none).unwrap_or(all.len());
    let group = new(number as u32);
    match all.get_mut(number) {
        Some(free) => *free = Some(group),
        None => all.push(Some(group)),
    }
    number as u32
}

/// The group of a function.
fn of(all: &mut [Option<Group>], function: Function) -> Option<&mut Group> {
    all.iter_mut().flatten().find(|group| group.members.contains(&function))
}

/// Where a device is with regard to the IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Not behind it.
    Bypass,
    /// In a group with the other functions of its device, and no others.
    Own,
    /// In a group of its own, whatever functions its device has.
    Alone,
    /// In a group with all others of this number.
    Shared(u32),
}

impl Isolation {
    pub(crate) fn of(device: &DeviceSpec) -> Self {
        match device.group {
            _ if !device.behind_iommu => Isolation::Bypass,
            Some(label) => Isolation::Shared(label),
            None => Isolation::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::dma::UNMANAGED;

    /// Groups of six functions, all of which were found on the bus in their order.
    fn groups() -> Groups {
        let places = [
            ("0000:00:03.0", Isolation::Shared(7)),
            ("0000:00:04.0", Isolation::Bypass),
            ("0000:00:05.0", Isolation::Own),
            ("0000:00:05.1", Isolation::Own),
            ("0000:00:06.0", Isolation::Shared(7)),
            ("0000:00:07.0", Isolation::Own),
        ];
        let places = places.map(|(address, isolation)| (address.parse().unwrap(), isolation));
        let unit = Unit { spec: IommuSpec::default(), default: UNMANAGED };
        let groups = Groups::new(Some(unit), places.to_vec());
        for number in 0..6 {
            groups.join(Function(number), |_| ());
        }
        groups
    }

    #[test]
    fn functions_that_are_not_isolated_share_a_group() {
        let groups = groups();
        let number = |function| groups.info(Function(function)).map(|info| info.group);
        assert_eq!([0, 1, 2, 3, 4, 5].map(number), [Some(0), None, Some(1), Some(1), Some(0), Some(2)]);
    }

    /// What a group is attached to follows from who has it, and who comes to it is attached as the others are.
    #[test]
    fn a_group_is_attached_as_a_whole() {
        let (groups, owner) = (groups(), DmaOwner::Context(1));
        let attached = RefCell::new(Vec::new());
        let each = |member: Function, domain: Option<Domain>| attached.borrow_mut().push((member.0, domain));
        let comes = |function| {
            groups.leave(Function(function));
            groups.join(Function(function), |domain| each(Function(function), domain));
        };
        // There is one domain to be had without a machine: it stands for any.
        let any = Some(UNMANAGED);
        comes(4);
        assert!(groups.claim(0, owner, each) && groups.claim(0, owner, each));
        comes(0);
        groups.attach(0, any, each);
        comes(0);
        groups.attach(0, None, each);
        groups.release(0, each);
        groups.release(0, each);
        assert_eq!(
            attached.take(),
            [
                (4, any),
                (0, None),
                (4, None),
                (0, None),
                (4, any),
                (0, any),
                (0, any),
                (4, None),
                (0, None),
                (4, any),
                (0, any)
            ]
        );
    }

    #[test]
    fn the_lowest_number_is_given_out() {
        let groups = groups();
        assert_eq!(groups.make(Function(1)), 3);
        assert_eq!(groups.leave(Function(2)), Some((1, false)));
        assert_eq!(groups.leave(Function(3)), Some((1, true)));
        assert_eq!(groups.leave(Function(3)), None);
        assert_eq!(groups.join(Function(3), |_| ()).map(|info| info.group), Some(1));
        assert_eq!(groups.join(Function(2), |_| ()).map(|info| info.group), Some(1));
        assert_eq!(groups.leave(Function(1)), Some((3, true)));
    }

    #[test]
    fn a_group_has_one_owner() {
        let groups = groups();
        let (one, other) = (DmaOwner::Context(1), DmaOwner::Context(2));
        let none = |_: Function, _: Option<Domain>| ();
        assert!(groups.claim(0, one, none) && groups.claim(0, one, none));
        groups.release(0, none);
        assert!(!groups.claim(0, other, none), "one device of the group still has an owner");
        assert!(!groups.claim_for_driver(Function(4)));
        groups.release(0, none);
        assert!(
            !groups.is_claimed(0)
                && groups.claim_for_driver(Function(4))
                && groups.claim_for_driver(Function(0))
        );
        assert!(groups.is_claimed(0) && !groups.claim(0, other, none));
        groups.release_for_driver(Function(0));
        assert!(!groups.claim(0, other, none), "one driver still has a function of the group");
        groups.release_for_driver(Function(4));
        assert!(groups.claim(0, other, none));
        assert!(groups.claim_for_driver(Function(1)), "it is in no group");
    }
}
