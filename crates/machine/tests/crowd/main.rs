//! Eight threads do everything that they can to one machine at the same time: map, copy, unmap, attach, replace, detach, open,
//! close, ask for physical addresses, have devices access memory, and take devices away.
//!
//! In the end nothing may be left of it, no thread may wait for another in vain, devices of drivers that behave may not have been
//! refused anything, and what they moved has to be what was there. Two seconds each are the rule; for longer runs
//! `IOASIS_CROWD_SECONDS` says how long.

#[expect(dead_code, reason = "the tests of single calls use more of it")]
#[path = "../machine/common.rs"]
mod common;

mod buffer;
mod calls;
mod containers;
mod contexts;
mod edu;
mod random;
mod stage;
mod watch;

use stage::Stage;
use watch::Actor;

/// How long a run takes if nothing else is said.
const SECONDS: u64 = 2;

fn run(iommu: &str, layout: &str) {
    let seconds = std::env::var("IOASIS_CROWD_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("IOASIS_CROWD_SECONDS: a number"));
    let stage = Stage::new(iommu, layout);
    let before = stage.holds();
    let actors: [Actor<'_>; 8] = [
        ("driver of the first", Box::new(|step, random| contexts::drive(&stage, 0, step, random))),
        ("driver of the second", Box::new(|step, random| contexts::drive(&stage, 1, step, random))),
        ("mapper", Box::new(|step, random| contexts::remap(&stage, 2, step, random))),
        ("other mapper", Box::new(|step, random| contexts::remap(&stage, 3, step, random))),
        ("wanderer", Box::new(|step, random| contexts::wander(&stage, step, random))),
        ("group", Box::new(|step, random| containers::drive(&stage, step, random))),
        ("careless driver", Box::new(|step, random| contexts::stray(&stage, 4, step, random))),
        ("administrator", Box::new(|step, random| stage.unplug(step, random))),
    ];
    let rounds = watch::run(actors, std::time::Duration::from_secs(seconds));
    eprintln!("rounds: {rounds:?}");
    assert_eq!(stage.holds(), before, "something is left");
    stage.check_findings();
}

#[test]
fn without_an_iommu() {
    run("none", "scattered");
}

#[test]
fn behind_an_iommu() {
    run("translating", "contiguous");
}
