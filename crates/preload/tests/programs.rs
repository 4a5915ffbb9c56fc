//! Programs that know nothing of a machine, under `ioasis run`: they need a C compiler, Python, Go, and `ioasis` (built beside
//! this workspace, or named by `IOASIS`). `cargo xtask test` has it all in place.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const PLAIN: &str =
    "[[device]]\naddress = \"0000:42:00.0\"\nmodel = \"edu\"\ndma_mask = 64\nthread = false\n";
const BEHIND_AN_IOMMU: &str = "iommu = \"translating\"\nunsafe_noiommu_mode = false\n";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn ioasis() -> PathBuf {
    let built = || here().join("../../target/debug/ioasis");
    let path = env::var_os("IOASIS").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "{} is not there: cargo build -p ioasis-cli builds it", path.display());
    path
}

/// A machine, and programs to run on it.
struct Under {
    folder: TempDir,
    machine: PathBuf,
}

impl Under {
    fn machine(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let machine = folder.path().join("machine.toml");
        std::fs::write(&machine, text).expect("a machine file");
        Under { folder, machine }
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        // The library that was built with this test, of the same profile.
        let own = env::current_exe().expect("this test's path");
        self.run_with(&own.with_file_name("libioasis_preload.so"), options, command)
    }

    fn run_with(&self, library: &Path, options: &[&str], command: &[&str]) -> Output {
        let mut run = Command::new(ioasis());
        run.arg("--machine").arg(&self.machine).arg("run").args(options).arg("--").args(command);
        run.env("IOASIS_PRELOAD", library).output().expect("ioasis runs")
    }

    /// Compiles a program of `tests/programs`.
    fn compiled(&self, name: &str, options: &[&str]) -> String {
        let program = self.folder.path().join(name);
        let source = here().join("tests/programs").join(name).with_extension("c");
        let status = Command::new("cc").args(options).arg("-o").arg(&program).arg(source).status();
        assert!(status.expect("a C compiler, cc").success());
        program.display().to_string()
    }
}

/// The driver of `examples/itself.rs`, built for the profile of this test.
fn on_rustix() -> String {
    let own = env::current_exe().expect("this test's path");
    let profile = own.ancestors().nth(2).expect("the folder of the profile");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "itself"]).current_dir(here());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success());
    profile.join("examples/itself").display().to_string()
}

/// The library as it is for use: with the checks of other profiles there are frames in each function that nothing unwinds.
fn optimized_library() -> PathBuf {
    let own = env::current_exe().expect("this test's path");
    let target = own.ancestors().nth(3).expect("the folder of all profiles");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--lib", "--target-dir"]).arg(target).current_dir(here());
    assert!(build.status().expect("cargo runs").success());
    target.join("release/libioasis_preload.so")
}

/// It ended well, and its standard output is this.
#[track_caller]
fn says(output: &Output, words: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    assert_eq!(text(&output.stdout), words, "{}", text(&output.stderr));
}

/// It failed, and its standard error has these words.
#[track_caller]
fn fails(output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(words), "{}: {text}", output.status);
}

#[test]
fn a_driver_in_c() {
    for optimized in ["-O0", "-O2"] {
        let under = Under::machine(PLAIN);
        let drive = under.compiled("drive", &[optimized]);
        says(&under.run(&[], &[&drive]), "there and back\n");
        let under = Under::machine(&[BEHIND_AN_IOMMU, PLAIN].concat());
        says(&under.run(&[], &[&drive, "/dev/vfio/devices/vfio0"]), "there and back\n");
    }
}

#[test]
fn a_driver_in_rust_on_libc() {
    for (text, node) in [(PLAIN.to_owned(), "noiommu-vfio0"), ([BEHIND_AN_IOMMU, PLAIN].concat(), "vfio0")] {
        let under = Under::machine(&text);
        let program = under.folder.path().join("drive").display().to_string();
        let source = here().join("tests/programs/drive.rs");
        let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let built = compiler.args(["--edition", "2024", "-O", "-o", &program]).arg(source).status();
        assert!(built.expect("rustc runs").success());
        says(&under.run(&[], &[&program, &format!("/dev/vfio/devices/{node}")]), "there and back\n");
    }
}

#[test]
fn a_driver_that_makes_system_calls_by_itself() {
    let header = here().join("tests/programs/itself.h").display().to_string();
    for text in [PLAIN.to_owned(), [BEHIND_AN_IOMMU, PLAIN].concat()] {
        let under = Under::machine(&text);
        let node = if text == PLAIN { "/dev/vfio/devices/noiommu-vfio0" } else { "/dev/vfio/devices/vfio0" };
        let drive = under.compiled("drive", &["-include", &header]);
        says(&under.run(&[], &[&drive, node]), "there and back\n");
        says(&under.run(&[], &["sh", "-c", &format!("{drive} {node}")]), "there and back\n");
        says(&under.run(&[], &[&on_rustix(), node]), "there and back\n");
    }
}

#[test]
fn threads_children_and_handlers_that_make_system_calls_by_themselves() {
    let header = here().join("tests/programs/itself.h").display().to_string();
    // Above the libraries' addresses or below, as a program may be.
    for position in ["-pie", "-no-pie"] {
        let under = Under::machine(PLAIN);
        let program = under.compiled("itself", &["-include", &header, "-pthread", position]);
        says(&under.run(&[], &[&program]), "seen\n");
    }
}

#[test]
fn a_program_in_go() {
    let under = Under::machine(PLAIN);
    let program = under.folder.path().join("itself").display().to_string();
    let source = here().join("tests/programs/itself.go");
    let build =
        Command::new("go").args(["build", "-o", &program]).arg(source).env("CGO_ENABLED", "1").status();
    assert!(build.expect("a compiler of Go, go").success());
    says(&under.run(&[], &[&program]), "seen\n");
}

#[test]
fn a_stray_access_fails_the_run() {
    let under = Under::machine(PLAIN);
    let drive = under.compiled("drive", &[]);
    let output = under.run(&[], &[&drive, "/dev/vfio/devices/noiommu-vfio0", "stray"]);
    fails(&output, "DMA checker: 0000:42:00.0 DMA EDU to RAM writes 15 bytes at 0x700_0000");
}

#[test]
fn refusals_are_explained() {
    let under = Under::machine(&[BEHIND_AN_IOMMU, PLAIN].concat());
    let drive = under.compiled("drive", &[]);
    let output = under.run(&["--explain"], &[&drive, "/dev/vfio/devices/vfio0"]);
    says(&output, "there and back\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("get-pa.no-page-table"), "{output:?}");
    let output = under.run(&["--explain"], &["cat", "/dev/vfio/devices/vfio7"]);
    fails(
        &output,
        "open /dev/vfio/devices/vfio7: ENOENT (no such file or directory): the machine has no such node; it has /dev/iommu, ",
    );
}

#[test]
fn what_a_program_sees() {
    for text in [PLAIN.to_owned(), [BEHIND_AN_IOMMU, PLAIN].concat()] {
        let look = here().join("tests/programs/look.py").display().to_string();
        says(&Under::machine(&text).run(&[], &["python3", &look]), "seen\n");
    }
}

#[test]
fn what_is_told_of_files_the_log_limits_and_capabilities() {
    let text = ["capabilities = [\"CAP_SYS_RAWIO\"]\n", PLAIN, "[limits]\nmemlock = \"64KiB\"\n"].concat();
    let under = Under::machine(&text);
    says(&under.run(&[], &[&under.compiled("kernel", &[])]), "as of a kernel\n");
    let header = here().join("tests/programs/itself.h").display().to_string();
    says(
        &under.run(&[], &[&under.compiled("kernel", &["-D_GNU_SOURCE", "-include", &header])]),
        "as of a kernel\n",
    );
    let limit = under.run(&[], &["sh", "-c", "ulimit -S -l"]);
    says(&limit, "64\n");
    let above = Under::machine("[limits]\nmemlock = \"1TiB\"\n");
    let hard = rustix::process::getrlimit(rustix::process::Resource::Memlock).maximum;
    if hard.is_some_and(|hard| hard < 1 << 40) && !rustix::process::geteuid().is_root() {
        fails(&above.run(&[], &["true"]), "cannot limit locked memory to 1TiB");
    }
}

#[test]
fn forks_go_on() {
    for text in [PLAIN.to_owned(), PLAIN.replace("false", "true")] {
        let under = Under::machine(&text);
        let fork = under.compiled("fork", &["-pthread"]);
        says(&under.run(&[], &[&fork, "/dev/vfio/devices/noiommu-vfio0"]), "all went on\n");
    }
}

#[test]
fn parent_and_child_have_one_machine() {
    for (text, node) in [(PLAIN.to_owned(), "noiommu-vfio0"), ([BEHIND_AN_IOMMU, PLAIN].concat(), "vfio0")] {
        for text in [text.clone(), text.replace("thread = false", "thread = true")] {
            let under = Under::machine(&text);
            let (family, node) =
                (under.compiled("family", &["-pthread"]), format!("/dev/vfio/devices/{node}"));
            says(&under.run(&[], &[&family, &node]), "one machine\n");
        }
    }
}

#[test]
fn pinned_memory_is_told_of_the_process_that_it_is_charged_to() {
    let under = Under::machine(
        "capabilities = [\"CAP_IPC_LOCK\", \"CAP_SYS_RESOURCE\"]\n[kconfig]\nCONFIG_DEBUG_KERNEL = \"y\"\n\
         CONFIG_FAULT_INJECTION = \"y\"\nCONFIG_RUNTIME_TESTING_MENU = \"y\"\nCONFIG_IOMMUFD_TEST = \"y\"\n",
    );
    says(&under.run(&[], &[&under.compiled("account", &[])]), "accounted\n");
}

#[test]
fn processes_go_on_without_the_keeper() {
    let under = Under::machine(PLAIN);
    let family = under.compiled("family", &["-pthread"]);
    let output = under.run(&[], &[&family, "/dev/vfio/devices/noiommu-vfio0", "killed"]);
    let lost = "has lost its machine (EIO from now on): the process that kept it is gone";
    fails(&output, lost);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one machine\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches(lost).count(), 1, "{output:?}");
}

#[test]
fn calls_of_code_that_is_made_at_run_time_are_caught_on_request() {
    let under = Under::machine(PLAIN);
    let (made, node) = (under.compiled("made", &["-O1"]), "/dev/vfio/devices/noiommu-vfio0");
    says(&under.run(&[], &[&made, node]), "missing\n");
    says(&under.run(&["--raw"], &[&made, node]), "opened\n");
}

#[test]
fn a_machine_that_exec_loses_is_told() {
    let under = Under::machine(PLAIN);
    let exec = here().join("tests/programs/exec.py").display().to_string();
    let lost = "has started another program, which begins with a machine of its own";
    let output = under.run(&[], &["python3", &exec, "used"]);
    says(&output, "another\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches(lost).count(), 1, "{output:?}");
    let output = under.run(&[], &["python3", &exec]);
    says(&output, "another\n");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_walks_directories_sees_the_machine() {
    for text in [PLAIN.to_owned(), [BEHIND_AN_IOMMU, PLAIN].concat()] {
        let under = Under::machine(&text);
        says(&under.run(&[], &[&under.compiled("list", &[])]), "listed\n");
        says(&under.run(&[], &[&under.compiled("fts", &[])]), "walked\n");
        let entered = "cd /dev/vfio/devices && for node in *; do stat -c %F $node; done";
        says(&under.run(&[], &["sh", "-c", entered]), "character special file\n");
    }
}

#[test]
fn registers_move_descriptors_arrive_and_waits_end() {
    for text in [PLAIN.to_owned(), PLAIN.replace("false", "true")] {
        let under = Under::machine(&text);
        let rest = under.compiled("rest", &[]);
        says(&under.run(&[], &[&rest, "/dev/vfio/devices/noiommu-vfio0"]), "and the rest\n");
    }
}

#[test]
fn page_faults_are_answered_and_memory_of_a_viommu_is_mapped() {
    let options = ["DEBUG_KERNEL", "FAULT_INJECTION", "RUNTIME_TESTING_MENU", "IOMMUFD_TEST"];
    let options = options.map(|option| format!("CONFIG_{option} = 'y'\n")).concat();
    let under = Under::machine(&format!("[kconfig]\n{options}"));
    let guest = under.compiled("guest", &[]);
    says(&under.run(&[], &[&guest]), "a guest was served\n");
    says(&under.run(&[], &[&guest, "kept"]), "a guest was served\n");
}

#[test]
fn signals_and_cancellation_come_between_calls() {
    let under = Under::machine(PLAIN);
    says(&under.run(&[], &[&under.compiled("handlers", &["-O1"])]), "handled\n");
    says(&under.run(&[], &[&under.compiled("alone", &[])]), "cancelled\n");
    says(&under.run(&[], &[&under.compiled("cancel", &["-O1", "-pthread"])]), "cancelled\n");
}

#[test]
fn threads_are_cancelled_at_any_time() {
    let under = Under::machine(PLAIN);
    let anytime = under.compiled("anytime", &["-O1", "-pthread"]);
    says(&under.run_with(&optimized_library(), &[], &[&anytime]), "cancelled\n");
}

#[test]
fn links_from_elsewhere_lead_to_the_machine() {
    let under = Under::machine(PLAIN);
    let work = under.folder.path().display().to_string();
    says(&under.run(&[], &[&under.compiled("links", &[]), &work]), "linked\n");
    let header = here().join("tests/programs/itself.h").display().to_string();
    let under = Under::machine(PLAIN);
    let work = under.folder.path().display().to_string();
    let itself = under.compiled("links", &["-D_GNU_SOURCE", "-include", &header]);
    says(&under.run(&[], &[&itself, &work]), "linked\n");
}

#[test]
fn streams_are_reopened_on_the_machine_and_back() {
    let under = Under::machine(PLAIN);
    let work = under.folder.path().display().to_string();
    says(&under.run(&[], &[&under.compiled("reopen", &[]), &work]), "reopened\n");
}

#[test]
fn an_older_ring_writes_nothing_to_the_machine() {
    let under = Under::machine(PLAIN);
    says(&under.run(&[], &[&under.compiled("ring", &[])]), "not written\n");
}

#[test]
fn memory_that_is_unmapped_stays_with_its_devices() {
    for (text, node) in [(PLAIN.to_owned(), "noiommu-vfio0"), ([BEHIND_AN_IOMMU, PLAIN].concat(), "vfio0")] {
        for text in [text.clone(), text.replace("thread = false", "thread = true")] {
            let under = Under::machine(&text);
            let (unmap, node) = (under.compiled("unmap", &[]), format!("/dev/vfio/devices/{node}"));
            for way in ["alone", "kept", "child"] {
                says(&under.run(&[], &[&unmap, &node, way]), "lived on\n");
            }
            for way in ["free", "protect"] {
                let output = under.run(&[], &[&unmap, &node, way]);
                fails(&output, "has unmapped or protected that memory while the device had it");
                assert_eq!(String::from_utf8_lossy(&output.stdout), "went on\n");
            }
        }
    }
}

#[test]
fn libraries_that_make_ioctls_by_themselves() {
    let under = Under::machine(PLAIN);
    let library = under.compiled("library", &["-shared", "-fPIC"]);
    let loads = under.compiled("loads", &["-pthread"]);
    says(&under.run(&[], &[&loads, &library]), "loaded\n");
    let loads = here().join("tests/programs/loads.py").display().to_string();
    says(&under.run(&[], &["python3", &loads, &library]), "loaded\n");
}

#[test]
fn other_programs_are_as_without_it() {
    let under = Under::machine(PLAIN);
    says(&under.run(&[], &["true"]), "");
    says(&under.run(&[], &["sh", "-c", "echo one | cat; exit 0"]), "one\n");
    assert_eq!(under.run(&[], &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(under.run(&[], &["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    says(&under.run(&[], &["python3", "-c", "print(sum(range(10)))"]), "45\n");
}

/// Answers the same with a machine under it and without.
#[track_caller]
fn is_the_same(under: &Under, command: &[&str]) {
    let alone = Command::new(command[0]).args(&command[1..]).output().expect("it starts");
    let other = under.run(&[], command);
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(alone.status.success(), "{command:?}: {}", text(&alone));
    assert_eq!((other.status, &other.stdout), (alone.status, &alone.stdout), "{command:?}: {}", text(&other));
    assert!(!alone.stdout.is_empty(), "{command:?} says nothing");
}

#[test]
fn programs_of_other_languages_are_as_without_it() {
    let under = Under::machine(PLAIN);
    let folder = under.folder.path();
    let plain = folder.join("plain-cpp").display().to_string();
    let source = here().join("tests/programs/plain.cpp");
    let built = Command::new("c++").args(["-std=c++17", "-pthread", "-o", &plain]).arg(source).status();
    assert!(built.expect("a compiler of C++, c++").success());
    is_the_same(&under, &[&plain, &folder.display().to_string()]);
    let threads = "import subprocess, threading, os\n\
        found = []\n\
        each = [threading.Thread(target=lambda n=n: found.append(n)) for n in range(20)]\n\
        [t.start() for t in each]; [t.join() for t in each]\n\
        print(sorted(found), subprocess.check_output(['echo', 'child']), os.listdir('/sys/class') != [])";
    is_the_same(&under, &["python3", "-c", threads]);
}

#[test]
fn tools_are_as_without_it() {
    let under = Under::machine(PLAIN);
    let made = under.folder.path().join("made").display().to_string();
    let git = |words: &[&str]| {
        let command =
            [&["git", "-C", &made, "-c", "user.name=a", "-c", "user.email=a@example.com"], words].concat();
        assert!(under.run(&[], &command).status.success(), "{command:?}");
    };
    let cargo = env!("CARGO");
    let new = under.run(&[], &[cargo, "new", "--quiet", "--offline", "--vcs", "git", &made]);
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "made"]);
    std::fs::write(under.folder.path().join("made/another"), "file").expect("a file");
    is_the_same(&under, &["git", "-C", &made, "status", "--porcelain"]);
    is_the_same(&under, &["git", "-C", &made, "log", "--stat", "--format=%H %s"]);
    let manifest = format!("{made}/Cargo.toml");
    let build = [cargo, "run", "--quiet", "--offline", "--manifest-path", &manifest];
    says(&under.run(&[], &build), "Hello, world!\n");
    let list = format!("tar -C {made} -cf - . | tar -tf - | sort | grep -v target");
    is_the_same(&under, &["sh", "-c", &list]);
}

#[test]
fn what_programs_pay_is_measured() {
    let own = env::current_exe().expect("this test's path");
    let table = |bench: &mut Command| {
        bench
            .args(["bench", "run", "--quick"])
            .env("IOASIS_PRELOAD", own.with_file_name("libioasis_preload.so"));
        let output = bench.output().expect("ioasis runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("{name}:\n{text}")).to_owned()
    };
    let text = table(&mut Command::new(ioasis()));
    for (name, aim) in [
        ("trapped load", "at most 1.5"),
        ("trapped store", "at most 1.5"),
        ("ioctl that the machine answers", "at most 5"),
        ("ioctl that the host answers", "at most 5"),
        ("true", "at most 15ms more"),
        ("tar of a tree", "at most 1.05"),
    ] {
        assert!(line(&text, name).contains(aim), "{text}");
    }
    let folder = TempDir::new().expect("a folder");
    std::os::unix::fs::symlink("/bin/true", folder.path().join("true")).expect("a link");
    let text = table(Command::new(ioasis()).env("PATH", folder.path()));
    assert!(line(&text, "tar of a tree").contains("none: tar is not installed"), "{text}");
}

#[test]
fn what_cannot_run_so_is_refused() {
    let under = Under::machine(PLAIN);
    let fixed = under.compiled("drive", &["-static"]);
    fails(&under.run(&[], &[&fixed]), "is linked statically");
    fails(&under.run(&[], &["no-such-program"]), "there is no program no-such-program");
    fails(&Under::machine("[[device]]\n").run(&[], &["true"]), "address");
}

/// What the rows need that are asked as somebody else, or with less. Physical addresses are shown in pagemap to who has CAP_SYS_ADMIN.
const ALL: &str = "capabilities = [\"CAP_SYS_RAWIO\", \"CAP_IPC_LOCK\", \"CAP_SYS_ADMIN\", \"CAP_SYS_RESOURCE\", \
                   \"CAP_DAC_OVERRIDE\"]\n";

impl Under {
    /// Asks a machine the rows of what Linux does, as a program that finds a kernel there. It wants to be root, as on a kernel; an
    /// ordinary user is that in a namespace.
    fn asked(&self, words: &[&str]) -> Output {
        let ioasis = ioasis().display().to_string();
        let namespace = ["unshare", "--user", "--map-root-user", &ioasis];
        let conform = ["conform", "--device", "0000:42:00.0", "--allow-noiommu"];
        self.run(&[], &[&namespace[..], &conform, words].concat())
    }
}

/// A program sees of the machine what the machine is, in every row of what Linux does.
#[test]
fn rows_are_answered_as_by_the_machine_itself() {
    // Huge pages of a program are in one piece in this layout.
    let without = ["[memory]\nlayout = \"hugepage\"\n", PLAIN].concat();
    let open = "allow_unsafe_interrupts = true\nunsafe_noiommu_mode = false\niommu.interrupt_remapping = false\n\
                vfio_iommu_type1.allow_unsafe_interrupts = true\n";
    let excused: &[&str] = &[
        // A machine has no user namespaces, but a program has.
        "B-031 noiommu",
        // The library's thread, which waits for children, is one that the suite does not fork beside. `rows_that_take_several_processes`
        // asks each alone.
        "B-582 noiommu",
        "B-674 noiommu",
    ];
    for (text, least, excused) in [
        ([ALL, &without].concat(), 550, excused),
        ([ALL, BEHIND_AN_IOMMU, PLAIN].concat(), 350, &[]),
        ([ALL, open, PLAIN].concat(), 350, &[]),
    ] {
        let under = Under::machine(&text);
        let itself =
            Command::new(ioasis()).arg("--machine").arg(&under.machine).args(["conform", "--json"]).output();
        let (itself, asked) = (itself.expect("ioasis runs"), under.asked(&["--json"]));
        let files = [("itself.json", &itself), ("asked.json", &asked)].map(|(name, output)| {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(text.matches("\"pass\"").count() >= least, "{name}: {text}");
            let path = under.folder.path().join(name);
            std::fs::write(&path, &output.stdout).expect("a file of results");
            path
        });
        let compared =
            Command::new(ioasis()).args(["conform", "--compare"]).args(files).output().expect("ioasis runs");
        let table = String::from_utf8_lossy(&compared.stdout);
        let rows = table.lines().filter(|line| line.trim_start().starts_with("B-"));
        let differ: Vec<String> =
            rows.map(|row| row.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(differ, excused, "{table}");
    }
}

/// The rows that take several processes or address spaces.
#[test]
fn rows_that_take_several_processes() {
    let rows =
        [("", "B-031 B-041 B-086 B-304 B-582 B-666 B-673 B-674"), (BEHIND_AN_IOMMU, "B-086 B-649 B-666")];
    for (iommu, rows) in rows {
        let under = Under::machine(&[ALL, iommu, PLAIN].concat());
        for row in rows.split_ascii_whitespace() {
            let output = under.asked(&["--filter", row]);
            let text = String::from_utf8_lossy(&output.stdout);
            let all: Vec<&str> = text
                .lines()
                .filter(|line| line.trim_start().starts_with("all "))
                .flat_map(str::split_ascii_whitespace)
                .collect();
            // Passed and failed, in the table of areas and in that of modes.
            assert!(output.status.success() && all.starts_with(&["all", "1", "0"]), "{row}: {output:?}");
        }
    }
}
