//! Puts a machine under an unmodified program: a library that `ioasis run` has the dynamic loader put before libc.
//!
//! The program's calls come to `calls`, where functions stand that have the names of libc's. `paths` and `descriptors` decide
//! whether the machine is meant; what is not goes to the kernel, by a system call of our own (`raw`), or to the function behind
//! ours. What is goes to a [`machine::Machine`] in the process (`state`), whose tree the program finds as real files in a folder
//! (`tree`). System calls that the program makes by itself come to the same functions (`bypass`, `filter`). A mapped BAR has no access
//! rights: the handler of SIGSEGV (`signals`) has each access carried out (`traps`, `trap`).

#![cfg_attr(
    test,
    expect(
        dead_code,
        unused_imports,
        unused_macros,
        reason = "unit tests are built without the functions that stand in for libc's"
    )
)]

#[cfg(not(test))]
mod bypass;
mod call;
#[cfg(not(test))]
mod calls;
mod code;
mod crash;
mod deferred;
mod descriptors;
mod family;
#[cfg(not(test))]
mod filter;
mod fork;
mod inside;
mod paths;
mod raw;
mod report;
mod signals;
mod state;
pub mod trap;
mod traps;
mod tree;

/// Called by the dynamic loader, before the program's own code.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = {
    extern "C" fn start() {
        let _inside = inside::Inside::enter();
        state::set_up();
        fork::set_up();
        #[cfg(not(test))]
        {
            family::set_up(bypass::handle_calls);
            bypass::set_up();
            filter::inherit();
        }
    }
    start
};

/// Called by the dynamic loader, after the program's own code.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = {
    extern "C" fn end() {
        family::leave();
    }
    end
};
