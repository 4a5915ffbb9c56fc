//! Bad input: the message names the thing, and nothing happens.

use crate::common::*;

#[test]
fn a_bad_machine_file_is_named_with_what_is_wrong() {
    let device = format!("[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"nvme\"\n");
    for (text, message) in [
        ("speed = 3".to_owned(), "machine.toml:1: unknown field `speed`"),
        ("[memory]\nlayout = \"round\"".to_owned(), "machine.toml:2: unknown variant `round`"),
        ("[[device]\n".to_owned(), "machine.toml:1: "),
        ("iommu = \"transparent\"".to_owned(), "transparent"),
        (device.clone(), "device 0000:01:00.0: `image` or `size` is needed"),
        (format!("{device}image = \"none.img\""), "none.img: No such file or directory"),
        (
            format!("{device}image = \"odd.img\""),
            "odd.img has 1000 bytes, which is no multiple of the block size of 512",
        ),
        (format!("{device}image = \"empty.img\""), "empty.img is empty"),
        (format!("{device}image = \".\""), "Is a directory"),
        (
            format!("{device}size = \"1MiB\"\n{device}size = \"1MiB\""),
            "device.address: \"0000:01:00.0\" is given to two devices",
        ),
        (format!("{device}size = \"lots\""), "lots"),
        (format!("{device}size = \"1000\""), "device.size: a size of 1000 bytes"),
        (format!("{device}size = \"1MiB\"\ndma_mask = 65"), "dma_mask = 65"),
        ("[[device]]\naddress = \"1:2:3\"\nmodel = \"edu\"".to_owned(), "1:2:3"),
    ] {
        let machine = Machine::file(&text);
        std::fs::write(machine.path("odd.img"), [0; 1000]).unwrap();
        std::fs::write(machine.path("empty.img"), []).unwrap();
        let error = fail(&mut machine.nvme("identify", &[]));
        assert!(error.contains("machine.toml") && error.contains(message), "{text}\ngives\n{error}");
    }
}

#[test]
fn a_machine_file_that_cannot_be_read_is_named() {
    for name in ["/nonexistent/machine.toml", "/"] {
        let error = fail(ioasis().args(["--machine", name, "nvme", "identify", ADDRESS]));
        assert!(error.starts_with(&format!("{name}: cannot read the machine file")), "{error}");
    }
}

#[test]
fn an_address_that_is_not_there_is_named_with_those_that_are() {
    let machine = Machine::with("size = \"1MiB\"");
    let mut command = ioasis();
    command.arg("--machine").arg(machine.path("machine.toml")).args(["nvme", "identify", "0000:09:00.0"]);
    let error = fail(&mut command);
    assert!(error.starts_with("there is no PCI device 0000:09:00.0; looked for:"), "{error}");
    assert!(error.contains("/sys/bus/pci/devices: 0000:01:00.0"), "{error}");
}

#[test]
fn the_host_is_asked_without_a_machine() {
    // No bus has such a domain.
    let address = "fffe:ff:1f.7";
    for more in [&["--json"][..], &["--allow-noiommu"]] {
        let error = fail(ioasis().args(["nvme", "identify", address]).args(more));
        assert!(error.starts_with(&format!("there is no PCI device {address}; looked for:")), "{error}");
        for path in [&format!("/sys/bus/pci/devices/{address}: not there"), "/dev/iommu: "] {
            assert!(error.contains(path), "{error}");
        }
    }
}

#[test]
fn a_device_that_is_no_controller_is_named() {
    let machine = Machine::file(&format!("[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"edu\"\n"));
    let error = fail(&mut machine.nvme("identify", &[]));
    assert!(error.starts_with("0000:01:00.0 is not an NVMe controller"), "{error}");
}

#[test]
fn blocks_that_are_not_there_are_not_read() {
    let machine = Machine::with("size = \"1MiB\"");
    for (more, message) in [
        (
            ["--lba", "2040", "--blocks", "9"].as_slice(),
            "9 blocks from block 2040 on were asked for, but the namespace has 2048 blocks",
        ),
        (&["--lba", "2048", "--all"], "block 2048 was asked for, but the namespace has 2048 blocks"),
        (
            &["--lba", "18446744073709551615", "--blocks", "18446744073709551615"],
            "but the namespace has 2048 blocks",
        ),
    ] {
        let error = fail(machine.nvme("read", more).args(["-o", "out"]));
        assert!(error.contains(message), "{error}");
        assert_eq!(machine.other_files(), [""; 0]);
    }
}

#[test]
fn input_that_does_not_fit_is_not_written() {
    let before = vec![7; 1 << 20];
    let machine = Machine::with_image(&before);
    std::fs::write(machine.path("odd"), [0; 700]).unwrap();
    std::fs::write(machine.path("large"), vec![0; 1 << 20]).unwrap();
    for (more, message) in [
        (["--lba", "0", "-i", "odd"], "odd has 700 bytes, which are no whole blocks of 512 bytes"),
        (
            ["--lba", "1", "-i", "large"],
            "large has 2048 blocks, which do not fit from block 1 on: the namespace has 2048 blocks",
        ),
        (["--lba", "2048", "-i", "odd"], "block 2048 was asked for, but the namespace has 2048 blocks"),
        (["--lba", "0", "-i", "none"], "cannot read none: No such file or directory"),
        (["--lba", "0", "-i", "."], "cannot read .: it is a directory"),
    ] {
        let error = fail(&mut machine.nvme("write", &more));
        assert!(error.starts_with(message), "{error}");
        assert!(read(&machine.path("disk.img")) == before);
    }
}

#[test]
fn input_that_turns_out_too_long_says_how_far_it_got() {
    let machine = Machine::with_sparse_image(20 << 20);
    let input = pattern(24 << 20);
    let outcome = run_with_input(&mut machine.nvme("write", &["-i", "-"]), &input);
    assert_eq!(outcome.status.code(), Some(1));
    let message = "error: blocks 0 to 32767 were written and flushed: 0000:01:00.0: 16384 blocks from block 32768 on were asked for, but the namespace has 40960 blocks\n";
    assert_eq!(outcome.stderr, message);
    assert!(read(&machine.path("disk.img"))[..16 << 20] == input[..16 << 20]);
}

#[test]
fn input_that_ends_in_a_block_says_how_far_it_got() {
    let machine = Machine::with_sparse_image(1 << 20);
    for (length, message) in [
        (
            1000,
            "blocks 0 to 0 were written and flushed: standard input ends in the middle of a block of 512 bytes",
        ),
        (100, "no block is known to be written: standard input ends in the middle of a block of 512 bytes"),
    ] {
        let outcome = run_with_input(&mut machine.nvme("write", &["-i", "-"]), &pattern(length));
        assert_eq!(outcome.status.code(), Some(1));
        assert_eq!(outcome.stderr, format!("error: {message}\n"));
    }
}

#[test]
fn a_bench_of_what_does_not_fit_is_refused() {
    let machine = Machine::with("size = \"1MiB\"");
    for (bs, message) in [
        ("100", "--bs 100 is no multiple of the block size, 512 bytes"),
        ("0", "--bs 0 is no multiple of the block size, 512 bytes"),
        ("2M", "the namespace is smaller than one transfer of 2097152 bytes"),
    ] {
        assert_eq!(fail(&mut machine.nvme("bench", &["--bs", bs])), message);
    }
    let machine = Machine::with("size = \"16MiB\"");
    let error = fail(&mut machine.nvme("bench", &["--bs", "4M"]));
    assert_eq!(error, "--bs 4194304 is more than one transfer takes, 2097152 bytes");
}

#[test]
fn a_bad_command_line_is_explained() {
    for words in [
        &["nvme", "identify", "nowhere"][..],
        &["nvme", "read", ADDRESS, "-o", "out"],
        &["nvme", "read", ADDRESS, "--blocks", "0", "-o", "out"],
        &["nvme", "read", ADDRESS, "--blocks", "1", "--all", "-o", "out"],
        &["nvme", "bench", ADDRESS, "--qd", "1024"],
        &["nvme", "bench", ADDRESS, "--bs", "4x"],
        &["fly"],
    ] {
        let outcome = run(ioasis().args(words));
        assert_eq!(outcome.status.code(), Some(2), "{words:?}");
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    }
}

#[test]
fn a_device_that_reaches_too_far_fails_the_run() {
    let machine = Machine::with("size = \"1MiB\"\ndma_mask = 16");
    let outcome = run(&mut machine.nvme("identify", &[]));
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.starts_with("DMA checker: "), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("accesses of devices to memory that they were not given"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_read_without_an_extent_names_both_ways_to_give_one() {
    let machine = Machine::with("size = \"1MiB\"");
    for more in [&[][..], &["--all", "--blocks", "1"]] {
        let outcome = run(machine.nvme("read", more).args(["-o", "out"]));
        assert_eq!(outcome.status.code(), Some(2));
        let named = ["--blocks", "--all"].iter().all(|option| outcome.stderr.contains(option));
        assert!(named, "{}", outcome.stderr);
    }
}
