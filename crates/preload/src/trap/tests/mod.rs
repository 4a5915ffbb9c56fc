//! Instructions on this processor and emulated.

mod bytes;
mod case;
mod differential;
mod generate;
mod processor;
mod single;
