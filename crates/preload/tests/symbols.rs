//! What the built library gives to the dynamic loader.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use object::{Object as _, ObjectSymbol as _};

/// Functions of libc through which a program may reach a machine. Some have several names, for callers of different age or caution.
const FUNCTIONS: &str = "open open64 openat openat64 __open_2 __open64_2 __openat_2 __openat64_2 creat creat64 fopen fopen64 freopen \
    freopen64 fdopen close close_range dup dup2 dup3 fcntl fcntl64 ioctl read pread pread64 __read_chk __pread_chk __pread64_chk \
    write pwrite pwrite64 readv preadv preadv64 preadv2 preadv64v2 writev pwritev pwritev64 pwritev2 pwritev64v2 lseek lseek64 \
    mmap mmap64 munmap mremap mprotect madvise mlock mlock2 stat stat64 lstat lstat64 fstat fstat64 fstatat fstatat64 __xstat \
    __xstat64 __lxstat __lxstat64 __fxstat __fxstat64 __fxstatat __fxstatat64 statx access faccessat euidaccess eaccess readlink \
    readlinkat __readlink_chk realpath __realpath_chk opendir closedir readdir readdir64 scandir scandir64 glob glob64 nftw nftw64 \
    ftw ftw64 fts_open fts_read fts_children fts_set fts_close fts64_open fts64_read fts64_children fts64_set fts64_close chdir fchdir getcwd poll __poll_chk ppoll __ppoll_chk select pselect epoll_ctl epoll_wait epoll_pwait recvmsg \
    recvmmsg inotify_add_watch getxattr lgetxattr listxattr llistxattr sigaction signal sigprocmask pthread_sigmask capset unshare _Fork vfork \
    __vfork _exit _Exit syscall";

/// The names that a library exports, and those that it imports.
fn names(path: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let bytes = fs::read(path).expect("the library");
    let file = object::File::parse(&*bytes).expect("a library");
    let (mut exported, mut imported) = (BTreeSet::new(), BTreeSet::new());
    for symbol in file.dynamic_symbols() {
        let name = symbol.name().expect("a name").to_owned();
        if symbol.is_undefined() { &mut imported } else { &mut exported }.insert(name);
    }
    (exported, imported)
}

fn library() -> PathBuf {
    let own = env::current_exe().expect("this test's path");
    own.with_file_name("libioasis_preload.so")
}

/// The libc that this test has.
fn libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("what this process has mapped");
    let path = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .find(|path| path.ends_with("/libc.so.6"));
    PathBuf::from(path.expect("glibc"))
}

#[test]
fn each_function_that_libc_has_is_stood_in_for() {
    let (ours, _) = names(&library());
    let (of_libc, _) = names(&libc());
    let asked: BTreeSet<String> = FUNCTIONS.split_ascii_whitespace().map(str::to_owned).collect();
    let missing: Vec<_> = asked.intersection(&of_libc).filter(|name| !ours.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(asked.intersection(&of_libc).count() > 100, "this libc has hardly any of them");
}

/// What the library itself calls is either its own, which knows that it is inside, or never comes back to it.
#[test]
fn what_is_stood_in_for_is_not_called() {
    let (exported, imported) = names(&library());
    let both: Vec<_> = exported.intersection(&imported).collect();
    assert!(both.is_empty(), "{both:?}");
    // Other names under which libc has the functions.
    let (of_libc, _) = names(&libc());
    let others: Vec<_> = exported
        .iter()
        .flat_map(|name| {
            [format!("__{name}"), format!("{name}64"), format!("__{name}64"), format!("__libc_{name}")]
        })
        .filter(|name| of_libc.contains(name) && imported.contains(name))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
