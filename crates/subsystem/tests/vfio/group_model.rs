//! Groups, what they join, and who has their devices, against a small model: random calls have the outcome that the model
//! predicts, by the name of the rule, and nothing is left when everything is closed.

use subsystem::{FileId, Function, Refusal, Usage};
use uapi::vfio::{
    VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU, VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU,
};

use crate::client::{Client, Vfio, machine};
use crate::group::behind_iommu;
use crate::random::Random;
use crate::support::function::TestFunction;
use crate::support::iommu::DomainsInUse;

/// What a group can join, by its number in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    Container(usize),
    Iommufd(usize),
}

/// A group with its one device, which is function `n` for group `n`.
#[derive(Default)]
struct Group {
    noiommu: bool,
    file: Option<FileId>,
    joined: Option<Joined>,
    /// The files that it gave out, and what the first one came through.
    given: Vec<FileId>,
    through: Option<Joined>,
    /// The device file that is bound.
    bound: Option<FileId>,
    /// Whether a context has its DMA, through a device that is bound there.
    owned: bool,
    /// Whether a driver of the host has another device of the iommu_group.
    hosts: bool,
}

#[derive(Default)]
struct Container {
    file: Option<(FileId, i32)>,
    groups: Vec<usize>,
    backend: Option<u32>,
}

#[derive(Default)]
struct Iommufd {
    file: Option<(FileId, i32)>,
    noiommu_mode: bool,
    ioas: bool,
}

struct Model {
    groups: [Group; 3],
    containers: Vec<Container>,
    iommufds: Vec<Iommufd>,
}

/// The numbers of the iommu_groups; that of the first is not behind an IOMMU.
const IOMMU_GROUPS: [u32; 3] = [0, 7, 8];

type Outcome = Result<(), &'static str>;

impl Group {
    /// Whether its device is open through a container, and so keeps the group open.
    fn is_held(&self) -> bool {
        matches!(self.through, Some(Joined::Container(_)))
    }

    fn is_open(&self) -> bool {
        self.file.is_some() || self.is_held()
    }
}

impl Model {
    fn open(&self, group: usize) -> Outcome {
        match &self.groups[group] {
            group if group.bound.is_some() => Err("group.device-bound"),
            group if group.is_open() => Err("group.open"),
            _ => Ok(()),
        }
    }

    fn join(&self, group: usize, what: Joined) -> Outcome {
        let group = &self.groups[group];
        if group.joined.is_some() {
            return Err("set-container.joined");
        }
        match what {
            Joined::Container(number) => {
                let groups = &self.containers[number].groups;
                match groups.first().map(|first| self.groups[*first].noiommu) {
                    Some(noiommu) if noiommu != group.noiommu => Err("set-container.mixed"),
                    _ if group.owned || group.hosts => Err("set-container.owned"),
                    _ => Ok(()),
                }
            }
            Joined::Iommufd(number) => match (group.noiommu, &self.iommufds[number]) {
                (true, Iommufd { ioas: true, .. }) => Err("set-container.ioas"),
                (false, Iommufd { noiommu_mode: true, .. }) => Err("set-container.noiommu"),
                _ => Ok(()),
            },
        }
    }

    fn joined(&mut self, group: usize, what: Joined) {
        let noiommu = self.groups[group].noiommu;
        self.groups[group].joined = Some(what);
        match what {
            Joined::Container(number) => self.containers[number].groups.push(group),
            Joined::Iommufd(number) if noiommu => self.iommufds[number].noiommu_mode = true,
            Joined::Iommufd(number) => self.iommufds[number].ioas = true,
        }
    }

    /// Whether a program has its DMA.
    fn is_claimed(&self, group: usize) -> bool {
        let Group { joined, noiommu, owned, .. } = self.groups[group];
        owned || !noiommu && matches!(joined, Some(Joined::Container(_)))
    }

    /// What GET_STATUS tells.
    fn status(&self, group: usize) -> u32 {
        match &self.groups[group] {
            group if group.joined.is_some() => VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET,
            group if group.owned || group.hosts => 0,
            _ => VFIO_GROUP_FLAGS_VIABLE,
        }
    }

    fn leave(&self, group: usize) -> Outcome {
        match self.groups[group].joined {
            None => Err("unset-container.none"),
            Some(Joined::Container(_)) if self.groups[group].is_held() => Err("unset-container.busy"),
            Some(_) => Ok(()),
        }
    }

    fn left(&mut self, group: usize) {
        if let Some(Joined::Container(number)) = self.groups[group].joined.take() {
            let container = &mut self.containers[number];
            container.groups.retain(|other| *other != group);
            if container.groups.is_empty() {
                container.backend = None;
            }
        }
    }

    fn set_iommu(&self, container: usize, kind: u32) -> Outcome {
        let container = &self.containers[container];
        let Some(first) = container.groups.first() else { return Err("set-iommu.no-group") };
        match (container.backend, self.groups[*first].noiommu) {
            (Some(_), _) => Err("set-iommu.set"),
            (None, true) if kind != VFIO_NOIOMMU_IOMMU => Err("set-iommu.unknown"),
            (None, false) if kind == VFIO_NOIOMMU_IOMMU => Err("set-iommu.unknown"),
            _ => Ok(()),
        }
    }

    fn give(&self, group: usize) -> Outcome {
        let group = &self.groups[group];
        let Some(joined) = group.joined else { return Err("get-device-fd.not-joined") };
        if !group.given.is_empty() {
            return Ok(());
        }
        match joined {
            Joined::Container(number) if self.containers[number].backend.is_none() => {
                Err("get-device-fd.no-backend")
            }
            Joined::Iommufd(_) if group.hosts => Err("bind.dma-owner"),
            _ => Ok(()),
        }
    }

    fn given(&mut self, group: usize, file: FileId) {
        let group = &mut self.groups[group];
        if group.given.is_empty() {
            group.through = group.joined;
            group.owned = !group.noiommu && !group.is_held();
        }
        group.given.push(file);
    }

    fn bind(&self, group: usize) -> Outcome {
        match &self.groups[group] {
            group if group.is_open() => Err("bind.group-open"),
            group if !group.given.is_empty() || group.bound.is_some() => Err("bind.device-open"),
            group if group.hosts => Err("bind.dma-owner"),
            _ => Ok(()),
        }
    }

    /// One of the files that a group gave out is closed.
    fn given_back(&mut self, group: usize, at: usize) -> FileId {
        let file = self.groups[group].given.remove(at);
        if self.groups[group].given.is_empty() {
            let through = self.groups[group].through.take();
            match through {
                Some(Joined::Container(_)) if self.groups[group].file.is_none() => self.left(group),
                Some(Joined::Iommufd(_)) => self.groups[group].owned = false,
                _ => {}
            }
        }
        file
    }
}

/// What came of a call, by the name of the rule.
fn named<T>(result: &Result<T, Refusal>) -> Outcome {
    result.as_ref().map(|_| ()).map_err(|refusal| refusal.rule().name)
}

struct Run<'a> {
    vfio: &'a Vfio,
    client: Client<'a>,
    model: Model,
    refused: usize,
}

impl Run<'_> {
    /// Makes a call, and holds its outcome against the prediction; what it answered if it succeeded.
    fn check<T>(&mut self, expected: Outcome, what: &str, result: Result<T, Refusal>) -> Option<T> {
        assert_eq!(named(&result), expected, "{what}");
        self.refused += usize::from(result.is_err());
        result.ok()
    }

    fn step(&mut self, random: &mut Random) {
        let group = random.below(3) as usize;
        let file = self.model.groups[group].file;
        if let Some(file) = file {
            assert_eq!(self.client.status(file), Ok(self.model.status(group)), "GET_STATUS");
        }
        match (random.below(18), file) {
            (0..=1, _) => {
                let opened = self.client.open_group(group as u32);
                let opened = self.check(self.model.open(group), "open", opened);
                self.model.groups[group].file = opened.or(file);
            }
            (2, Some(file)) => {
                self.vfio.release(file);
                self.model.groups[group].file = None;
                if !self.model.groups[group].is_held() {
                    self.model.left(group);
                }
            }
            (3..=5, Some(file)) => {
                if let Some((what, fd)) = self.target(random) {
                    let answer = self.client.set_container(file, fd);
                    if self.check(self.model.join(group, what), "SET_CONTAINER", answer).is_some() {
                        self.model.joined(group, what);
                    }
                }
            }
            (6, Some(file)) => {
                let answer = self.client.unset_container(file);
                if self.check(self.model.leave(group), "UNSET_CONTAINER", answer).is_some() {
                    self.model.left(group);
                }
            }
            (7..=9, Some(file)) => {
                let answer = self.client.device_of(file, &format!("0000:00:{group:02x}.0"));
                if let Some(given) = self.check(self.model.give(group), "GET_DEVICE_FD", answer) {
                    self.model.given(group, given);
                }
            }
            (10..=11, _) => self.set_iommu(random),
            (12, _) => self.bind(random, group),
            (13, _) => {
                if let Some(bound) = self.model.groups[group].bound.take() {
                    self.vfio.release(bound);
                    self.model.groups[group].owned = false;
                }
            }
            (14, _) if !self.model.groups[group].given.is_empty() => {
                let at = random.below(self.model.groups[group].given.len() as u64) as usize;
                let file = self.model.given_back(group, at);
                self.vfio.release(file);
            }
            (15..=16, _) if !self.model.groups[group].noiommu => self.host_driver(group),
            _ => self.open_or_close(random),
        }
    }

    /// A driver of the host comes to another device of the iommu_group, or leaves it.
    fn host_driver(&mut self, group: usize) {
        let number = IOMMU_GROUPS[group];
        if self.model.groups[group].hosts {
            self.vfio.host().iommus(|iommus| iommus.driver_leaves(number));
            self.model.groups[group].hosts = false;
        } else {
            let takes = self.vfio.host().iommus(|iommus| iommus.driver_takes(number));
            assert_eq!(takes, !self.model.is_claimed(group), "a driver of the host");
            self.model.groups[group].hosts = takes;
        }
    }

    /// Something that is open and that a group can try to join.
    fn target(&self, random: &mut Random) -> Option<(Joined, i32)> {
        let containers = self.model.containers.iter().enumerate();
        let containers = containers.filter_map(|(at, it)| Some((Joined::Container(at), it.file?.1)));
        let iommufds = self.model.iommufds.iter().enumerate();
        let iommufds = iommufds.filter_map(|(at, it)| Some((Joined::Iommufd(at), it.file?.1)));
        let all: Vec<_> = containers.chain(iommufds).collect();
        (!all.is_empty()).then(|| random.pick(&all))
    }

    fn set_iommu(&mut self, random: &mut Random) {
        if let Some((Joined::Container(at), _)) = self.target(random) {
            let kind = random.pick(&[VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_NOIOMMU_IOMMU]);
            let (file, _) = self.model.containers[at].file.expect("it is open");
            let answer = self.client.set_iommu(file, kind);
            if self.check(self.model.set_iommu(at, kind), "SET_IOMMU", answer).is_some() {
                self.model.containers[at].backend = Some(kind);
            }
        }
    }

    fn bind(&mut self, random: &mut Random, group: usize) {
        if let Some((Joined::Iommufd(_), fd)) = self.target(random) {
            let device = self.client.open(group as u32);
            let answer = self.client.bind(device, fd);
            match self.check(self.model.bind(group), "BIND", answer) {
                Some(_) => {
                    let group = &mut self.model.groups[group];
                    group.bound = Some(device);
                    group.owned = !group.noiommu;
                }
                None => self.vfio.release(device),
            }
        }
    }

    /// Containers and iommufds come and go, two of each at a time.
    fn open_or_close(&mut self, random: &mut Random) {
        let containers = self.model.containers.iter().filter(|it| it.file.is_some()).count();
        let iommufds = self.model.iommufds.iter().filter(|it| it.file.is_some()).count();
        if random.below(4) == 0 {
            let file = match self.target(random) {
                Some((Joined::Container(at), _)) => self.model.containers[at].file.take(),
                Some((Joined::Iommufd(at), _)) => self.model.iommufds[at].file.take(),
                None => None,
            };
            if let Some((file, _)) = file {
                self.vfio.release(file);
            }
        } else if containers < 2 && random.below(2) == 0 {
            let file = Some(self.client.container());
            self.model.containers.push(Container { file, ..Container::default() });
        } else if iommufds < 2 {
            let file = Some(self.client.iommufd());
            self.model.iommufds.push(Iommufd { file, ..Iommufd::default() });
        }
    }

    /// Closes everything that is open.
    fn close(self) {
        let Model { groups, containers, iommufds } = self.model;
        let groups = groups.into_iter().flat_map(|it| it.given.into_iter().chain(it.file).chain(it.bound));
        let others = containers.into_iter().map(|it| it.file).chain(iommufds.into_iter().map(|it| it.file));
        groups.chain(others.flatten().map(|(file, _)| file)).for_each(|file| self.vfio.release(file));
    }
}

#[test]
fn random_calls_have_the_outcome_that_a_model_predicts() {
    let (mut steps, mut refused) = (0, 0);
    for seed in 1..=400 {
        let mut random = Random::new(seed);
        let [_, second, third] = IOMMU_GROUPS;
        let vfio = machine(&[TestFunction::express(), behind_iommu(second), behind_iommu(third)]);
        let groups = [true, false, false].map(|noiommu| Group { noiommu, ..Group::default() });
        let model = Model { groups, containers: Vec::new(), iommufds: Vec::new() };
        let mut run = Run { vfio: &vfio, client: Client::new(&vfio), model, refused: 0 };
        for _ in 0..150 {
            run.step(&mut random);
        }
        (steps, refused) = (steps + 150, refused + run.refused);
        run.close();
        assert_eq!(vfio.usage(), Usage { devices: 3, groups: 3, ..Usage::default() }, "seed {seed}");
        assert_eq!(vfio.host().in_use().domains, DomainsInUse::default(), "seed {seed}");
        (0..3).for_each(|function| vfio.remove(Function(function)));
        assert_eq!(vfio.usage(), Usage::default(), "seed {seed}");
    }
    assert!(refused * 20 > steps, "{refused} of {steps} calls are refused: the model has something to say");
}
