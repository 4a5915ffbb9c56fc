//! Sequences on machines: what is drawn can be written down, and does the same again.

use conformance::Target;
use differ::{Arena, Harmful, Sequence, compare, draw, play, shrink};
use machine::{Machine, MachineSpec};

const ADDRESS: &str = "0000:00:03.0";

fn machine(layout: &str) -> (Machine, Target) {
    let text = format!(
        "[memory]\nlayout = \"{layout}\"\nseed = 3\n[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"edu\"\nthread = false\n"
    );
    let spec = MachineSpec::parse(&text).expect("a machine file");
    let machine = Machine::from_spec(spec).expect("a machine");
    (machine, Target { devices: vec![ADDRESS.to_owned()] })
}

#[test]
fn what_is_drawn_does_the_same_again_wherever_memory_lies() {
    let arena = Arena::new().expect("memory");
    let (first, target) = machine("contiguous");
    let (second, _) = machine("scattered");
    let (unused, calls) = (first.usage(), 50);
    let mut succeeded = 0;
    for seed in 0..300 {
        let (sequence, drawn) = draw(&first, &target, &arena, seed, calls);
        let text = sequence.to_string();
        let read = Sequence::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read, sequence, "{text}");
        let played = play(&second, &target, &arena, &read).expect("harmless");
        if let Some(difference) = compare(&drawn, &played) {
            panic!("seed {seed}: {difference:?}\n{text}");
        }
        succeeded += drawn.iter().filter(|outcome| !outcome.is_refusal()).count();
        assert_eq!(first.usage(), unused, "seed {seed} leaves something open:\n{text}");
    }
    let share = succeeded * 100 / (300 * calls);
    assert!((30..90).contains(&share), "{share} % of the calls succeed: too many or too few to tell much");
}

#[test]
fn what_a_kernel_does_not_survive_is_not_passed_on() {
    let arena = Arena::new().expect("memory");
    let (machine, target) = machine("contiguous");
    let text =
        "f0 = open device:0 rw\nf1 = open iommufd rw\nioctl f1 IOMMU_IOAS_MAP_FILE fd=f0 length=0x1000\n";
    let sequence = Sequence::parse(text).expect("a script");
    assert_eq!(play(&machine, &target, &arena, &sequence), Err(Harmful::Cycle));
}

#[test]
fn a_sequence_shrinks_to_what_it_differs_by() {
    let arena = Arena::new().expect("memory");
    let (_keeps, target) = machine("contiguous");
    let (plain, _) = machine("contiguous");
    // One machine lacks the capability to lock memory without limit, and has no memory to lock.
    let text = format!(
        "capabilities = [\"CAP_SYS_RAWIO\"]\n[limits]\nmemlock = 4096\n[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"edu\"\n"
    );
    let poor = Machine::from_spec(MachineSpec::parse(&text).expect("a machine file")).expect("a machine");
    let both = |sequence: &Sequence| {
        let (left, right) =
            (play(&plain, &target, &arena, sequence)?, play(&poor, &target, &arena, sequence)?);
        Ok(compare(&left, &right))
    };
    let long = (0..).map(|seed| draw(&plain, &target, &arena, seed, 50).0);
    let differing =
        long.take(200).find(|sequence| both(sequence).is_ok_and(|difference| difference.is_some()));
    let (short, difference) = shrink(&differing.expect("one maps more"), both).expect("harmless");
    let text = short.to_string();
    assert!(difference.is_some_and(|it| it.right.to_string().starts_with("ENOMEM")), "{text}");
    assert!(text.lines().count() <= 10, "{text}");
}

#[test]
fn bad_scripts_are_refused_with_the_line() {
    for (script, part) in [
        ("f0 = open iommufd rw\nfly f0", "line 2: fly is no call"),
        ("f0 open iommufd rw", "followed by ="),
        ("open moon rw", "moon is no node"),
        ("ioctl f0 IOMMU_NOTHING", "no ioctl"),
        ("ioctl f0 IOMMU_DESTROY colour=1", "no field colour"),
        ("ioctl f0 IOMMU_DESTROY id=x", "x is no value"),
        ("read f0 0x0", "a length is missing"),
        ("memfd 70000", "fits"),
        ("close f0 f1", "f1 is too much"),
        ("write f0 0 0g", "hexadecimal"),
    ] {
        let error = Sequence::parse(script).expect_err(script).to_string();
        assert!(error.contains(part), "{script}: {error}");
    }
}

#[test]
fn addresses_of_the_process_are_not_passed_on() {
    let arena = Arena::new().expect("memory");
    let (machine, target) = machine("contiguous");
    let local = 7_u64;
    let address = &raw const local as u64;
    for line in [
        format!("ioctl f0 IOMMU_IOAS_IOVA_RANGES ioas_id=1 num_iovas=1 allowed_iovas={address:#x}"),
        format!("ioctl f0 IOMMU_IOAS_ALLOC number {address:#x}"),
        format!("ioctl f0 VFIO_DEVICE_FEATURE flags=0x10008 + 8:0 8:{address:#x}"),
    ] {
        let sequence = Sequence::parse(&format!("f0 = open iommufd rw\n{line}")).expect("a script");
        let refused = play(&machine, &target, &arena, &sequence).expect_err("it is an address");
        assert!(refused.to_string().contains("could be an address"), "{refused}");
    }
}
