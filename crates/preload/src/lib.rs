//! Puts a machine under an unmodified program: a library that `ioasis run` has the dynamic loader put before libc.

mod trap;
